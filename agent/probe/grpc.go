package probe

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
)

// grpc asks the gRPC health service. Whatever goes wrong is a failure, as with
// the tool grpc_health_probe.
func (n *Network) grpc(ctx context.Context, r Request, action *v1.GRPCAction) (bool, string, error) {
	addr := address("", r.PodIP, int(action.Port))
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithUserAgent(n.userAgent),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
	if err != nil {
		return false, fmt.Sprintf("error: failed to connect service at %q: %+v", addr, err), nil
	}
	defer conn.Close()
	if !connected(ctx, conn) {
		return false, fmt.Sprintf("timeout: failed to connect service %q within %v: %+v", addr, timeout(r.Probe), ctx.Err()), nil
	}
	request := &health.HealthCheckRequest{}
	if action.Service != nil {
		request.Service = *action.Service
	}
	response, err := health.NewHealthClient(conn).Check(ctx, request)
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		return false, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): " +
			status.Convert(err).Message(), nil
	case codes.DeadlineExceeded:
		return false, fmt.Sprintf("timeout: health rpc did not complete within %v", timeout(r.Probe)), nil
	default:
		return false, fmt.Sprintf("error: health rpc probe failed: %+v", err), nil
	}
	if s := response.GetStatus(); s != health.HealthCheckResponse_SERVING {
		return false, fmt.Sprintf("service unhealthy (responded with %q)", s), nil
	}
	return true, "service healthy", nil
}

// connected waits for a connection, however often that is refused, until ctx
// ends.
func connected(ctx context.Context, conn *grpc.ClientConn) bool {
	for {
		switch s := conn.GetState(); s {
		case connectivity.Ready:
			return true
		case connectivity.Idle:
			conn.Connect()
			fallthrough
		default:
			if !conn.WaitForStateChange(ctx, s) {
				return false
			}
		}
	}
}
