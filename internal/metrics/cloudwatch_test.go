package metrics_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/metrics"
	"github.com/sluicehq/sluice/internal/processtest"
)

const namespace = "Sluice"

// counts is a source whose samples the test changes.
type counts struct {
	mu      sync.Mutex
	samples []metrics.Sample // guarded by mu
}

func (c *counts) set(samples ...metrics.Sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples = samples
}

func (c *counts) source() []metrics.Sample {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.samples
}

// scene is a publisher beside a CloudWatch, in a bubble that begins at midnight.
type scene struct {
	counts
	server    *localaws.Server
	publisher *metrics.Publisher
	log       processtest.Output
	start     time.Time
}

func newScene(detail bool) *scene {
	s := &scene{server: localaws.New(localaws.Options{}), start: time.Now()}
	s.publisher = metrics.NewPublisher(
		cloudwatch.NewFromConfig(s.server.Config(s.server.Client(nil))),
		metrics.Options{
			Namespace: namespace, Service: "orders", Period: time.Minute, Detail: detail,
			Source: s.source, Log: slog.New(slog.NewTextHandler(&s.log, nil)),
		})
	return s
}

// during runs f beside the publisher's loop.
func (s *scene) during(t *testing.T, f func()) {
	ctx, stop := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { s.publisher.Run(ctx) })
	f()
	stop()
	loop.Wait()
}

// until sleeps until d after the start, and past what happens at that instant.
func (s *scene) until(d time.Duration) {
	time.Sleep(time.Until(s.start.Add(d)))
	synctest.Wait()
}

func TestPeriodsBelowAMinuteAreStoredAsSuch(t *testing.T) {
	t.Parallel()
	for period, want := range map[time.Duration]bool{10 * time.Second: true, time.Minute: false} {
		server := localaws.New(localaws.Options{})
		var sent []byte
		server.Intercept(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var err error
				if sent, err = io.ReadAll(r.Body); err != nil {
					t.Error(err)
				}
				r.Body = io.NopCloser(bytes.NewReader(sent))
				next.ServeHTTP(w, r)
			})
		})
		metrics.NewPublisher(cloudwatch.NewFromConfig(server.Config(server.Client(nil))), metrics.Options{
			Namespace: namespace, Service: "orders", Period: period, Log: slog.New(slog.DiscardHandler),
			Source: func() []metrics.Sample { return []metrics.Sample{{Name: "InFlight", Value: 1}} },
		}).Flush(t.Context())
		if len(server.Metrics(namespace, "InFlight")) != 1 {
			t.Fatalf("sent %q", sent)
		}
		if got := bytes.Contains(sent, []byte("StorageResolution")); got != want {
			t.Errorf("%v: StorageResolution sent: %v", period, got)
		}
	}
}

// put returns what CloudWatch has, one line for each value.
func (s *scene) put(name string) []string {
	var lines []string
	for _, d := range s.server.Metrics(namespace, name) {
		at := d.Time.Sub(s.start)
		dimensions := strings.TrimPrefix(fmt.Sprint(d.Dimensions), "map")
		line := fmt.Sprintf("%v %s %s %s %v", at, d.Name, dimensions, d.Unit, d.Value)
		if d.Count != 1 {
			line += fmt.Sprintf(" x%v", d.Count)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func invocations(route string, n float64) metrics.Sample {
	return metrics.Sample{Name: "Invocations", Model: "sonnet", Route: route, Value: n}
}

func throttles(route, cause string, n float64) metrics.Sample {
	return metrics.Sample{Name: "Throttles", Model: "sonnet", Route: route, Label: cause, Value: n}
}

func TestPublisher(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(false)
		time.Sleep(10 * time.Second) // periods are the clock's, not the process's
		s.during(t, func() {
			s.set(invocations("a", 6), invocations("b", 3), throttles("a", "tokens", 2), throttles("b", "", 1),
				metrics.Sample{Name: "Closed", Model: "sonnet", Route: "a", Label: "stopped", Value: 1},
				metrics.Sample{Name: "Closed", Model: "sonnet", Route: "b", Label: "stopped"},
				metrics.Sample{Name: "Closed", Model: "sonnet", Route: "b", Label: "parked", Value: 1},
				metrics.Sample{Name: "InFlight", Value: 4},
				metrics.Sample{Name: "DrainSeconds", Value: math.Inf(1)},
				metrics.Sample{Name: "Share", Model: "sonnet", Route: "a", Value: 100},
				metrics.Sample{Name: "NoSuchMetric", Value: 4},
				metrics.Sample{Name: "QueueWait", Model: "sonnet", Buckets: []metrics.Bucket{{Value: 0.5, Count: 7}, {Value: 2, Count: 1}}})
			s.until(time.Minute)
			s.set(invocations("a", 6), invocations("b", 4), throttles("a", "tokens", 2), throttles("b", "", 1),
				metrics.Sample{Name: "InFlight", Value: 0},
				metrics.Sample{Name: "QueueWait", Model: "sonnet", Buckets: []metrics.Bucket{{Value: 0.5, Count: 7}, {Value: 2, Count: 3}}})
			s.until(3 * time.Minute)
		})
		want := []string{
			"0s Closed [Model:sonnet Service:orders] Count 2",
			"0s InFlight [Service:orders] Count 4",
			"0s Invocations [Model:sonnet Service:orders] Count 9",
			"0s QueueWait [Model:sonnet Service:orders] Seconds 0.5 x7",
			"0s QueueWait [Model:sonnet Service:orders] Seconds 2",
			"0s ThrottleRate [Model:sonnet Service:orders] Percent 25",
			"0s Throttles [Model:sonnet Service:orders] Count 3",
			"1m0s InFlight [Service:orders] Count 0",
			"1m0s Invocations [Model:sonnet Service:orders] Count 1",
			"1m0s QueueWait [Model:sonnet Service:orders] Seconds 2 x2",
			"1m0s ThrottleRate [Model:sonnet Service:orders] Percent 0",
			"1m0s Throttles [Model:sonnet Service:orders] Count 0",
			// The third minute was idle: no values, and no rate of nothing.
			"2m0s InFlight [Service:orders] Count 0",
			"2m0s Invocations [Model:sonnet Service:orders] Count 0",
			"2m0s Throttles [Model:sonnet Service:orders] Count 0",
		}
		if diff := cmp.Diff(want, s.put("")); diff != "" {
			t.Errorf("CloudWatch (-want +got):\n%s", diff)
		}
		if s.log.String() != "" {
			t.Errorf("a healthy hour logged:\n%s", s.log.String())
		}
	})
}

func TestPublisherInDetail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(true)
		s.set(invocations("a", 6), invocations("b", 2), throttles("a", "tokens", 1), throttles("a", "requests", 1),
			metrics.Sample{Name: "Succeeded", Model: "sonnet", Value: 8},
			metrics.Sample{Name: "Share", Model: "sonnet", Route: "a", Value: 50},
			metrics.Sample{Name: "Buried", Label: "malformed", Value: 3})
		s.publisher.Flush(t.Context())
		want := []string{
			"0s Buried [Reason:malformed Service:orders] Count 3",
			"0s Buried [Service:orders] Count 3",
			"0s Invocations [Model:sonnet Route:a Service:orders] Count 6",
			"0s Invocations [Model:sonnet Route:b Service:orders] Count 2",
			"0s Invocations [Model:sonnet Service:orders] Count 8",
			"0s Share [Model:sonnet Route:a Service:orders] Percent 50",
			"0s Succeeded [Model:sonnet Service:orders] Count 8",
			"0s ThrottleRate [Model:sonnet Route:a Service:orders] Percent 25",
			"0s ThrottleRate [Model:sonnet Route:b Service:orders] Percent 0",
			"0s ThrottleRate [Model:sonnet Service:orders] Percent 20",
			"0s Throttles [Cause:requests Model:sonnet Route:a Service:orders] Count 1",
			"0s Throttles [Cause:tokens Model:sonnet Route:a Service:orders] Count 1",
			"0s Throttles [Model:sonnet Service:orders] Count 2",
		}
		if diff := cmp.Diff(want, s.put("")); diff != "" {
			t.Errorf("CloudWatch (-want +got):\n%s", diff)
		}
	})
}

func TestFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(false)
		s.during(t, func() {
			s.set(invocations("a", 5))
			s.until(time.Minute)
			s.set(invocations("a", 8))
			s.until(90 * time.Second)
		})
		s.publisher.Flush(t.Context())
		want := []string{
			"0s Invocations [Model:sonnet Service:orders] Count 5",
			"1m0s Invocations [Model:sonnet Service:orders] Count 3",
		}
		if diff := cmp.Diff(want, s.put("Invocations")); diff != "" {
			t.Errorf("CloudWatch (-want +got):\n%s", diff)
		}
	})
}

// The server refuses a request of more data, and a datum of more values, than
// CloudWatch takes, and one of more bytes, which rounded values would be pressed
// below.
func TestPublisherSplits(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for name, test := range map[string]struct{ models, values int }{
		"data":   {2500, 1},
		"values": {3, 310},
		"bytes":  {700, 150},
	} {
		var samples []metrics.Sample
		for model := range test.models {
			s := metrics.Sample{Name: "QueueWait", Model: fmt.Sprint("m", model)}
			for range test.values {
				s.Buckets = append(s.Buckets, metrics.Bucket{Value: random.Float64(), Count: random.Uint64N(1 << 50)})
			}
			samples = append(samples, s)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(false)
				s.set(samples...)
				s.publisher.Flush(t.Context())
				if got, want := len(s.server.Metrics(namespace, "QueueWait")), test.models*test.values; got != want {
					t.Errorf("%d values arrived, want %d", got, want)
				}
				if log := s.log.String(); log != "" {
					t.Errorf("logged:\n%s", log)
				}
			})
		})
	}
}

func TestPublisherCompresses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(false)
		var encoding atomic.Value
		s.server.Intercept(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				encoding.Store(r.Header.Get("Content-Encoding"))
				next.ServeHTTP(w, r)
			})
		})
		for model := range 200 {
			s.samples = append(s.samples, metrics.Sample{Name: "Succeeded", Model: fmt.Sprint("m", model), Value: 1})
		}
		s.publisher.Flush(t.Context())
		if got := len(s.server.Metrics(namespace, "")); got != 200 || encoding.Load() != "gzip" {
			t.Errorf("%d values arrived in %q, want 200 in gzip", got, encoding.Load())
		}
	})
}

// An outage costs its own periods and two log lines, whether CloudWatch refuses
// or hangs, and its counts are not made up for.
func TestCloudWatchIsAway(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]http.HandlerFunc{
		"503":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"hang": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(false)
				var away atomic.Bool
				s.server.Intercept(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if away.Load() {
							fault(w, r)
							return
						}
						next.ServeHTTP(w, r)
					})
				})
				s.during(t, func() {
					for minute := 1; minute <= 6; minute++ {
						s.until(time.Duration(minute)*time.Minute - time.Second)
						away.Store(3 <= minute && minute <= 5)
						s.set(invocations("a", float64(10*minute)))
					}
					s.until(6 * time.Minute)
				})
				want := []string{
					"0s Invocations [Model:sonnet Service:orders] Count 10",
					"1m0s Invocations [Model:sonnet Service:orders] Count 10",
					"5m0s Invocations [Model:sonnet Service:orders] Count 10",
				}
				if diff := cmp.Diff(want, s.put("Invocations")); diff != "" {
					t.Errorf("CloudWatch (-want +got):\n%s", diff)
				}
				log := s.log.String()
				if strings.Count(log, "\n") != 2 || !strings.Contains(log, "metrics dropped until") ||
					!strings.Contains(log, "periods_dropped=3") {
					t.Errorf("log, want a line when it begins and one when it ends:\n%s", log)
				}
			})
		})
	}
}

// The stop is not held up by a CloudWatch that hangs.
func TestStopWhileCloudWatchHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(false)
		s.server.Intercept(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		})
		s.set(invocations("a", 1))
		s.during(t, func() {
			s.until(61 * time.Second) // a put is under way
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			s.publisher.Flush(ctx)
			if took := time.Since(s.start); took != 63*time.Second {
				t.Errorf("flush ended at %v, want 1m3s", took)
			}
			if !strings.Contains(s.log.String(), "metrics dropped") {
				t.Errorf("log:\n%s", s.log.String())
			}
		})
	})
}
