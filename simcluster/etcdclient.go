package simcluster

import (
	"sync"
	_ "unsafe" // for go:linkname

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"k8s.io/apiserver/pkg/storage/storagebackend"
)

// newETCD3Client makes the API server's etcd clients. It is a variable upstream, for
// its own tests.
//
//go:linkname newETCD3Client k8s.io/apiserver/pkg/storage/storagebackend/factory.newETCD3Client
var newETCD3Client func(storagebackend.TransportConfig) (*kubernetes.Client, error)

// etcdServers are the etcd servers of this process by their URLs.
var etcdServers struct {
	once sync.Once
	// servers has an *etcdserver.EtcdServer for each URL.
	servers sync.Map
}

// serveInProcess has API servers call etcd's functions in place of sending it
// requests. It is for virtual time, where requests would go through the kernel, and
// cost; what the functions do is the same.
func (e *etcdServer) serveInProcess() {
	etcdServers.once.Do(func() {
		remote := newETCD3Client
		newETCD3Client = func(c storagebackend.TransportConfig) (*kubernetes.Client, error) {
			if len(c.ServerList) == 1 {
				if server, ok := etcdServers.servers.Load(c.ServerList[0]); ok {
					return localClient(c.ServerList, server.(*etcdserver.EtcdServer))
				}
			}
			return remote(c)
		}
	})
	etcdServers.servers.Store(e.url, e.etcd.Server)
}

func (e *etcdServer) stopServingInProcess() { etcdServers.servers.Delete(e.url) }

// localClient is a client that knows its endpoint, which upstream asks it for, and
// never dials it.
func localClient(endpoints []string, server *etcdserver.EtcdServer) (*kubernetes.Client, error) {
	client, err := kubernetes.New(clientv3.Config{Endpoints: endpoints, Logger: etcdClientLogger})
	if err != nil {
		return nil, err
	}
	local := v3client.New(server)
	client.KV, client.Watcher, client.Lease, client.Maintenance = local.KV, local.Watcher, local.Lease, local.Maintenance
	return client, nil
}
