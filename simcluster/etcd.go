package simcluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// etcdServer is the embedded etcd, of one member, on a unix socket.
type etcdServer struct {
	etcd *embed.Etcd
	// url is where clients find it.
	url string
}

const (
	// etcdTick paces elections and leases. A single member has nobody to send
	// heartbeats to: the tick only has to be short enough for a quick first
	// election, which takes one or two of them.
	etcdTick = 100 * time.Millisecond
	// etcdVirtualTick is the tick in virtual time, where a short one costs and a
	// long election does not.
	etcdVirtualTick = time.Second
	// etcdVirtualBatch is how often etcd looks for writes to commit, unless there
	// are many.
	etcdVirtualBatch = 10 * time.Second
	// etcdVirtualSegment is how much of the log is allocated at once, in bytes: a
	// system call keeps the one processor until it returns.
	etcdVirtualSegment = 2 << 20
	// etcdQuota bounds the database, in bytes.
	etcdQuota = 8 << 30
)

// startEtcd starts etcd on the data in dir.
func startEtcd(dir *dataDir, logger *slog.Logger) (*etcdServer, error) {
	socket := url.URL{Scheme: "unix", Path: dir.file("etcd.sock")}
	config := embed.NewConfig()
	config.Dir = dir.file("etcd")
	config.ListenClientUrls = []url.URL{socket}
	config.AdvertiseClientUrls = []url.URL{socket}
	// A single member needs no port for its peers; it still has to have a
	// name for itself, the default.
	config.ListenPeerUrls = nil
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZapLogger(logger))
	tick := etcdTick
	if ClockAddress() != 0 {
		tick, config.BackendBatchInterval = etcdVirtualTick, etcdVirtualBatch
		wal.SegmentSizeBytes = etcdVirtualSegment
	}
	config.TickMs = uint(tick.Milliseconds())
	config.ElectionMs = 10 * config.TickMs
	// The data does not have to outlive a power failure.
	config.UnsafeNoFsync = true
	config.QuotaBackendBytes = etcdQuota
	// Fewer snapshots and shorter catch-up: there is no follower to catch up.
	config.SnapshotCount = 50_000
	config.SnapshotCatchUpEntries = 500
	config.EnableGRPCGateway = false
	// The API server compacts.
	config.AutoCompactionRetention = "0"
	config.DowngradeCheckTime = 0
	config.CompactHashCheckTime = time.Hour

	server, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("starting etcd in %s: %w", config.Dir, err)
	}
	e := &etcdServer{etcd: server, url: socket.String()}
	if ClockAddress() != 0 {
		e.serveInProcess()
	}
	return e, nil
}

// ready waits until etcd serves.
func (e *etcdServer) ready(ctx context.Context) error {
	select {
	case <-e.etcd.Server.ReadyNotify():
		return nil
	case <-e.etcd.Server.StopNotify():
		return errors.New("etcd ended while it was starting")
	case <-ctx.Done():
		return fmt.Errorf("waiting for etcd: %w", context.Cause(ctx))
	}
}

// run serves until ctx ends.
func (e *etcdServer) run(ctx context.Context) error {
	defer e.etcd.Close()
	defer e.stopServingInProcess()
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.etcd.Err():
		return err
	case <-e.etcd.Server.StopNotify():
		return errors.New("the etcd server stopped")
	}
}
