package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// life FILE PORT RUN… is one incarnation of a container of package chaos: FILE
// counts them, and each does what its RUN says, or the last one. The runs are
// exit:CODE:SECONDS, serve, deaf, stubborn and oom; those that serve do so on PORT.
func life(args []string) int {
	file, port, runs := args[0], args[1], args[2:]
	data, _ := os.ReadFile(file)
	n, _ := strconv.Atoi(string(data))
	if err := os.WriteFile(file, []byte(strconv.Itoa(n+1)), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	what, rest, _ := strings.Cut(runs[min(n, len(runs)-1)], ":")
	switch what {
	case "exit":
		return exit(strings.Split(rest, ":"))
	case "serve":
		return serve([]string{port})
	case "deaf":
		wait()
		return 0
	case "stubborn":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		fmt.Fprintln(os.Stderr, http.ListenAndServe(":"+port, nil))
		return 1
	case "oom":
		time.Sleep(time.Second)
		return oom(nil)
	}
	fmt.Fprintf(os.Stderr, "testprog: no run %q\n", what)
	return 127
}
