// Command etcd is what kube-apiserver keeps its objects in, of the version that its tests use.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
