package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Hook makes the request of a container's HTTP lifecycle hook. Any answer, and
// whatever it leads to within the host, is success. Where HTTPS is answered with
// HTTP it is asked for that, and the error is a Warning.
func (n *Network) Hook(ctx context.Context, r Request, action *v1.HTTPGetAction) error {
	request, err := n.request(ctx, r, action, "lifecycle")
	if err != nil {
		return err
	}
	client := &http.Client{Transport: n.transport, CheckRedirect: withinHost}
	err = answered(client, request)
	if err == nil || !strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return err
	}
	request.URL.Scheme = "http"
	request.Header.Del("Authorization")
	if answered(client, request) != nil {
		return err
	}
	return Warning(fmt.Sprintf("request to HTTPS lifecycle hook %s got HTTP response, retry with HTTP succeeded", request.URL.Host))
}

func answered(client *http.Client, request *http.Request) error {
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	// What it says does not matter.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxBody))
	return nil
}
