// Package localaws is the embedded AWS: SQS, S3, CloudWatch and the Bedrock
// runtime, served over their real wire protocols, from memory, in this process.
//
// It obeys what Sluice relies on (design section 6) and refuses the rest with an
// error that says so. It checks no signatures and no permissions, knows no
// fairness between message groups, moves no messages on FIFO queues, and loses
// everything with the process. It is meant for the real SDK clients only: over
// loopback (Listen), or without a network (Client), which works inside a
// testing/synctest bubble. The suites in internal/localaws/conformance hold it
// to the behaviour of AWS and of emulators that others wrote.
//
// cmd/drainer's demo, localstack/, bench/ and tests import it; it imports the
// SDK, gofakes3 and nothing of Sluice but its own subpackages.
package localaws

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"

	"github.com/johannesboyne/gofakes3"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

// Whose AWS this is. Tests see them in ARNs and queue URLs.
const (
	account = "000000000000"
	region  = "us-east-1"
)

// Options configure a Server; the zero value will do.
type Options struct {
	// Bedrock says which models there are, and their quotas.
	Bedrock bedrocksim.Options
	// Log hears about what cannot be told to a client; nil is silence.
	Log *slog.Logger
}

// Server is one embedded AWS, empty at first.
type Server struct {
	log     *slog.Logger
	sqs     *sqsServer
	objects *objectStore
	s3      http.Handler
	bedrock *bedrocksim.Simulator

	cloudwatch cloudwatchServer

	mu        sync.Mutex // guards what follows
	handler   http.Handler
	calls     map[string]int
	listeners []*http.Server
	url       string
}

// New returns a Server without queues, buckets or metrics.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		log:     o.Log,
		objects: newObjectStore(),
		bedrock: bedrocksim.New(o.Bedrock),
		calls:   make(map[string]int),
		url:     "http://aws.localhost",
	}
	s.sqs = newSQS(s.endpoint)
	s.s3 = newS3(s.objects, s.log)
	s.handler = http.HandlerFunc(s.route)
	return s
}

// ServeHTTP serves all services: a request's target header or path tells them
// apart.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.calls[Operation(r)]++
	handler := s.handler
	s.mu.Unlock()
	handler.ServeHTTP(w, r)
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	switch serviceOf(r) {
	case "SQS":
		w.Header().Set("X-Amzn-Requestid", newUUID().String())
		s.sqs.ServeHTTP(w, r)
	case "Bedrock":
		s.bedrock.ServeHTTP(w, r)
	case "CloudWatch":
		w.Header().Set("X-Amzn-Requestid", newUUID().String())
		s.cloudwatch.ServeHTTP(w, r)
	default:
		s.s3.ServeHTTP(w, r)
	}
}

// Intercept puts f around everything that is served from now on: the place for
// faults. A handler that panics with http.ErrAbortHandler drops the connection.
func (s *Server) Intercept(f func(next http.Handler) http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = f(s.handler)
}

// Calls returns how often each Operation was called, intercepted ones included.
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// Listen serves on a loopback address such as "127.0.0.1:0" until Close, and
// returns the URL to use as the endpoint of every service.
func (s *Server) Listen(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, server)
	s.url = "http://" + l.Addr().String()
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the embedded AWS stopped listening", "err", err)
		}
	}()
	return s.url, nil
}

// Close ends listening and drops the connections.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, l.Close())
	}
	s.listeners = nil
	return errors.Join(errs...)
}

// endpoint is where clients find the server: the latest listener, or a name
// that only Client resolves.
func (s *Server) endpoint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// Bedrock returns the Bedrock simulator.
func (s *Server) Bedrock() *bedrocksim.Simulator { return s.bedrock }

// CreateBucket makes a bucket, or finds it. It panics where S3 would refuse the
// name.
func (s *Server) CreateBucket(name string) {
	err := gofakes3.ValidateBucketName(name)
	if err == nil {
		err = s.objects.CreateBucket(name)
	}
	if err != nil && !gofakes3.HasErrorCode(err, gofakes3.ErrBucketAlreadyExists) {
		panic(fmt.Sprintf("localaws: create bucket %q: %v", name, err))
	}
}

// CreateQueue makes a queue, or finds it, and returns its URL. It panics where
// SQS would refuse the name or the attributes.
func (s *Server) CreateQueue(name string, attributes map[string]string) string {
	url, err := s.sqs.create(name, attributes)
	if err != nil {
		panic(fmt.Sprintf("localaws: create queue %q: %v", name, err))
	}
	return url
}
