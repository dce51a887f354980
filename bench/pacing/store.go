package main

import (
	"maps"
	"net/http"
	"sync"
)

// store stands in for S3: it keeps what the drainer's promises rest on
// (absence, If-None-Match) and drops the bodies, which would be most of the
// bench's memory and nobody reads.
type store struct {
	mu    sync.Mutex
	keys  map[string]http.Header
	again int // puts that a result of the same key refused
}

func newStore() *store { return &store{keys: map[string]http.Header{}} }

const preflight = "_sluice-preflight"

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	there, ok := s.keys[r.URL.Path]
	switch {
	case r.Method == http.MethodHead && ok:
		maps.Copy(w.Header(), there)
		w.Header().Set("ETag", `"kept"`)
		w.WriteHeader(http.StatusOK)
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPut && ok && r.Header.Get("If-None-Match") == "*":
		if r.URL.Path != "/results/out/"+preflight {
			s.again++
		}
		w.WriteHeader(http.StatusPreconditionFailed)
	case r.Method == http.MethodPut:
		kept := http.Header{}
		for k, v := range r.Header {
			if len(k) > 11 && k[:11] == "X-Amz-Meta-" {
				kept[k] = v
			}
		}
		s.keys[r.URL.Path] = kept
		w.Header().Set("ETag", `"kept"`)
		w.WriteHeader(http.StatusOK)
	default:
		w.WriteHeader(http.StatusNotImplemented)
	}
}

// len counts the results.
func (s *store) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.keys)
	if _, ok := s.keys["/results/out/"+preflight]; ok {
		n--
	}
	return n
}

// count counts the results of a status.
func (s *store) count(status string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.keys {
		if h.Get("X-Amz-Meta-Status") == status {
			n++
		}
	}
	return n
}
