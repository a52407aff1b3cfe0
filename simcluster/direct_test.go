package simcluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

// directClient is a client of a handler.
func directClient(t *testing.T, handler http.HandlerFunc) *http.Client {
	t.Helper()
	server := newDirectServer()
	transport, err := server.transport(nil)
	if err != nil {
		t.Fatal(err)
	}
	server.serve(handler)
	return &http.Client{Transport: transport}
}

func TestDirectAnswer(t *testing.T) {
	client := directClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Length", "21")
		w.WriteHeader(http.StatusCreated)
		w.Header().Set("Late", "not sent any more")
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL, r.Host, body)
	})
	resp, err := client.Post("https://host/a?b=c", "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if got := string(body); got != "POST /a?b=c host body" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if resp.StatusCode != http.StatusCreated || resp.ContentLength != 21 || resp.Header.Get("Late") != "" {
		t.Errorf("got %s, length %d, header %v", resp.Status, resp.ContentLength, resp.Header)
	}
}

// TestDirectWaits: a request that comes before the API server waits for it.
func TestDirectWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newDirectServer()
		transport, err := server.transport(nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			resp, err := (&http.Client{Transport: transport}).Get("https://host/")
			if err == nil {
				err = resp.Body.Close()
			}
			done <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("ended before there was a server: %v", err)
		default:
		}
		server.serve(http.NotFoundHandler())
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestDirectStream: what is flushed arrives, and the handler learns that its reader
// has gone.
func TestDirectStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		client := directClient(t, func(w http.ResponseWriter, r *http.Request) {
			for i := range 3 {
				fmt.Fprintf(w, "event %d\n", i)
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
			_, err := w.Write([]byte("too late"))
			ended <- err
		})
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://host/", nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		for i := range 3 {
			if !lines.Scan() || lines.Text() != fmt.Sprintf("event %d", i) {
				t.Fatalf("got %q, %v", lines.Text(), lines.Err())
			}
		}
		cancel()
		if lines.Scan() || !errors.Is(lines.Err(), context.Canceled) {
			t.Errorf("after the end: %q, %v", lines.Text(), lines.Err())
		}
		if err := <-ended; err == nil {
			t.Error("the handler could write when nobody read any more")
		}
		resp.Body.Close()
	})
}

// TestDirectBackPressure: a handler waits for a slow reader, and no longer when that
// closes the body.
func TestDirectBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written, ended := 0, make(chan error, 1)
		client := directClient(t, func(w http.ResponseWriter, _ *http.Request) {
			for {
				n, err := w.Write(make([]byte, 1<<10))
				if written += n; err != nil {
					ended <- err
					return
				}
			}
		})
		resp, err := client.Get("https://host/")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if written != directAhead {
			t.Errorf("%d bytes were written that nobody read, want %d", written, directAhead)
		}
		if n, err := io.ReadFull(resp.Body, make([]byte, 1<<10)); n != 1<<10 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		synctest.Wait()
		if written != directAhead+1<<10 {
			t.Errorf("after 1 KiB was read, %d bytes were written", written)
		}
		resp.Body.Close()
		if err := <-ended; err == nil {
			t.Error("the handler did not learn of the end")
		}
	})
}

// TestDirectEndsEarly: a panic and a context that ends break a request off.
func TestDirectEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := directClient(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/half" {
				_, _ = w.Write(bytes.Repeat([]byte("x"), directBuffered))
			}
			panic(http.ErrAbortHandler)
		})
		if _, err := broken.Get("https://host/"); err == nil {
			t.Error("no error from a handler that panicked")
		}
		resp, err := broken.Get("https://host/half")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("half a response was read without an error")
		}
		resp.Body.Close()

		slow := directClient(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		ctx, cancel := context.WithCancel(t.Context())
		go func() { synctest.Wait(); cancel() }()
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://host/", nil)
		if _, err := slow.Do(req); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
