package config

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// unlimitedInFlightBytes is the bound where nothing limits the process's
	// memory: 1,000 jobs of 256 KiB.
	unlimitedInFlightBytes = 256 << 20
	// noLimit and above is how cgroup v1 (2^63 rounded down to a page) and
	// GOMEMLIMIT (2^63-1) write "no limit".
	noLimit = math.MaxInt64 >> 1
)

// defaultInFlightBytes is a quarter of the memory limit: a body is held about
// twice (as read and as sent), and garbage doubles that.
func defaultInFlightBytes(limit int64) int64 {
	if limit >= noLimit {
		return unlimitedInFlightBytes
	}
	return max(limit/4, minInFlightBytes)
}

// memoryLimit is the limit of this process, in bytes.
func memoryLimit() int64 {
	goLimit := debug.SetMemoryLimit(-1) // a negative limit reads without setting
	return min(goLimit, groupLimit(os.DirFS("/")))
}

// groupLimit is the limit of the process's control group.
func groupLimit(root fs.FS) int64 {
	// cgroup v1, as a container sees its own.
	limit := readLimit(root, "sys/fs/cgroup/memory/memory.limit_in_bytes")

	// cgroup v2: the process's own group and each above it, as far as they are
	// visible. In a container with its own namespace that is the root only.
	own, _ := fs.ReadFile(root, "proc/self/cgroup")
	group := "/"
	for line := range strings.Lines(string(own)) {
		if v2, ok := strings.CutPrefix(line, "0::"); ok {
			group = path.Clean("/" + strings.TrimSpace(v2))
		}
	}
	for {
		limit = min(limit, readLimit(root, path.Join("sys/fs/cgroup", group, "memory.max")))
		if group == "/" {
			return limit
		}
		group = path.Dir(group)
	}
}

// readLimit reads a limit in bytes. A file that is not there, or says "max", is
// no limit.
func readLimit(root fs.FS, name string) int64 {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return math.MaxInt64
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n <= 0 {
		return math.MaxInt64
	}
	return n
}
