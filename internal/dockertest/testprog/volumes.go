package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stat FILE... prints each file's permissions and owners.
func stat(args []string) int {
	for _, a := range args {
		var s syscall.Stat_t
		if err := syscall.Stat(a, &s); err != nil {
			fmt.Fprintln(os.Stderr, a, err)
			return 1
		}
		fmt.Printf("%o %d %d\n", s.Mode&0o7777, s.Uid, s.Gid)
	}
	return 0
}

// fill FILE BYTES writes a file of a size.
func fill(args []string) int {
	size, err := strconv.Atoi(args[1])
	if err == nil {
		err = os.WriteFile(args[0], bytes.Repeat([]byte("x"), size), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// sets DIR reads the files of a volume whose files change all at once, for ever,
// and prints each content that is new. Where the files of one set differ it
// prints "torn".
func sets(args []string) int {
	last := ""
	for {
		content, err := readSet(args[0])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// The set was replaced meanwhile.
		case err != nil:
			fmt.Println(err)
			return 1
		case content != last:
			fmt.Println(content)
			last = content
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func readSet(dir string) (string, error) {
	set, err := os.Readlink(filepath.Join(dir, "..data"))
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(filepath.Join(dir, set))
	if err != nil {
		return "", err
	}
	all := map[string]bool{}
	var content string
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, set, e.Name()))
		if err != nil {
			return "", err
		}
		content = string(data)
		all[content] = true
	}
	if now, err := os.Readlink(filepath.Join(dir, "..data")); err != nil || now != set {
		// It may have been on its way out while it was read.
		return "", cmp.Or(err, fs.ErrNotExist)
	}
	if len(all) != 1 {
		return "torn", nil
	}
	return content, nil
}

// whoami asks the API server, in the way of an in-cluster client, who one is.
func whoami([]string) int {
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	token, err := os.ReadFile(account + "token")
	ca, caErr := os.ReadFile(account + "ca.crt")
	namespace, nsErr := os.ReadFile(account + "namespace")
	roots := x509.NewCertPool()
	if err := errors.Join(err, caErr, nsErr); err != nil || !roots.AppendCertsFromPEM(ca) {
		fmt.Fprintln(os.Stderr, "credentials:", err)
		return 1
	}
	url := "https://" + net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")) +
		"/apis/authentication.k8s.io/v1/selfsubjectreviews"
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(`{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}`))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	response, err := client.Do(request)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer response.Body.Close()
	var review struct {
		Status struct {
			UserInfo struct {
				Username string
				Extra    map[string][]string
			}
		}
		Message string
	}
	if err := json.NewDecoder(response.Body).Decode(&review); err != nil || response.StatusCode != http.StatusCreated {
		fmt.Fprintln(os.Stderr, response.Status, review.Message, err)
		return 1
	}
	user := review.Status.UserInfo
	fmt.Println(string(namespace), user.Username, user.Extra["authentication.kubernetes.io/pod-name"])
	return 0
}
