// Command testprog is what runs in the containers of tests: one static binary
// that does what its first argument says.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"serve"}
	}
	command, args := args[0], args[1:]
	commands := map[string]func([]string) int{
		"serve": serve, "stubborn": stubborn, "exit": exit, "print": print, "echo": echo, "sleep": sleep,
		"env": env, "cat": cat, "write": write, "get": get, "message": message, "oom": oom, "id": id, "life": life,
		"stat": stat, "sets": sets, "fill": fill, "whoami": whoami, "behave": behave, "check": check,
	}
	f, ok := commands[command]
	if !ok {
		fmt.Fprintf(os.Stderr, "testprog: no command %q\n", command)
		os.Exit(127)
	}
	os.Exit(f(args))
}

// serve answers HTTP on port 8080, or the one given, until SIGTERM, from when it
// has said so.
func serve(args []string) int {
	port := "8080"
	if len(args) > 0 {
		port = args[0]
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("yes")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "%s %s\n", host, r.URL.Path)
	})
	http.HandleFunc("/file/", func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(strings.TrimPrefix(r.URL.Path, "/file"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(data)
	})
	go func() { fmt.Fprintln(os.Stderr, http.ListenAndServe(":"+port, nil)) }()
	<-stop
	return 0
}

func wait() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
}

// stubborn runs on whatever it is asked, from when it has said so.
func stubborn([]string) int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("no")
	for {
		time.Sleep(time.Hour)
	}
}

// exit CODE [SECONDS] ends with a code, after some seconds.
func exit(args []string) int {
	code, _ := strconv.Atoi(args[0])
	if len(args) > 1 {
		seconds, _ := strconv.ParseFloat(args[1], 64)
		time.Sleep(time.Duration(seconds * float64(time.Second)))
	}
	return code
}

// print writes each argument as a line and runs on.
func print(args []string) int {
	for _, a := range args {
		fmt.Println(a)
	}
	wait()
	return 0
}

func echo(args []string) int {
	fmt.Println(strings.Join(args, " "))
	return 0
}

func sleep(args []string) int {
	seconds, _ := strconv.ParseFloat(args[0], 64)
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	return 0
}

// env prints the environment, or the variables named.
func env(args []string) int {
	if len(args) == 0 {
		fmt.Println(strings.Join(os.Environ(), "\n"))
	}
	for _, a := range args {
		fmt.Println(a + "=" + os.Getenv(a))
	}
	return 0
}

// cat prints files.
func cat(args []string) int {
	for _, a := range args {
		f, err := os.Open(a)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		_, _ = io.Copy(os.Stdout, f)
		f.Close()
	}
	return 0
}

// write FILE TEXT writes a file.
func write(args []string) int {
	if err := os.WriteFile(args[0], []byte(args[1]), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// get URL prints what it answers.
func get(args []string) int {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer resp.Body.Close()
	_, _ = io.Copy(os.Stdout, resp.Body)
	return 0
}

// message CODE TEXT leaves a termination message and ends with a code.
func message(args []string) int {
	if err := os.WriteFile("/dev/termination-log", []byte(args[1]), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	fmt.Println("log of", args[1])
	return exit(args[:1])
}

// oom takes memory until there is none.
func oom([]string) int {
	var all [][]byte
	for {
		b := make([]byte, 8<<20)
		for i := range b {
			b[i] = 1
		}
		all = append(all, b)
		fmt.Println(len(all))
	}
}

// id prints who it runs as.
func id([]string) int {
	groups, _ := os.Getgroups()
	fmt.Println(os.Getuid(), os.Getgid(), groups)
	return 0
}
