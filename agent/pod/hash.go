package pod

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"

	v1 "k8s.io/api/core/v1"
)

// ContainerHash identifies the part of a container's spec whose change asks for
// a new incarnation of the container: its name and its image. All other fields
// are immutable in the API or can be changed while the container runs.
func ContainerHash(c *v1.Container) string {
	// Two strings always marshal.
	data, err := json.Marshal(struct {
		Name  string `json:"name"`
		Image string `json:"image"`
	}{c.Name, c.Image})
	if err != nil {
		panic(fmt.Sprintf("marshalling a container's name and image: %v", err))
	}
	h := fnv.New32a()
	h.Write(data)
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}
