package drainer_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/job"
)

// mortal is the network of a process that can be killed: what it asks from then
// on reaches nobody, and what was answered reaches nobody either.
type mortal struct {
	aws.HTTPClient
	dead atomic.Bool
}

var errKilled = errors.New("killed")

func (m *mortal) Do(r *http.Request) (*http.Response, error) {
	if m.dead.Load() {
		return nil, errKilled
	}
	answer, err := m.HTTPClient.Do(r)
	if m.dead.Load() {
		return nil, errKilled
	}
	return answer, err
}

// A drainer killed at any moment and started again: one result for every job.
func TestKilledAtAnyMoment(t *testing.T) {
	seeds := uint64(12)
	if raceEnabled {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, sim(600), `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":600}]}}`, 1, func(w *world) {
				w.cfg.Visibility = 30 * time.Second
				moments := rand.New(rand.NewPCG(seed, 1))
				w.enqueueMany(0, 200, "sonnet", "j")
				w.send(0, `{"id":"typo","run":"test","modle":"sonnet"}`)
				network := w.ac.HTTPClient
				for range 4 {
					m := &mortal{HTTPClient: network}
					w.ac.HTTPClient = m
					w.drain()
					time.Sleep(time.Duration(moments.Int64N(int64(10 * time.Second))))
					m.dead.Store(true)
				}
				w.ac.HTTPClient = network
				p := w.drain()
				w.empty(p, 20*time.Minute)
				if got := w.results(); got[job.Succeeded] != 200 || got[job.Failed] != 1 || len(got) != 2 {
					w.Errorf("results %v, want 200 succeeded and 1 failed", got)
				}
				if n := w.buried()[job.Malformed]; n < 1 {
					w.Error("the malformed job is not on the dead-letter queue")
				}
				w.Logf("%d answers paid twice in four kills", w.paidTwice())
			})
		})
	}
}

// The quota is used and kept in each shape that the limiter may have, also while
// a neighbour takes half of it for a while; no job is lost, none answered twice.
func TestEachLimiterShape(t *testing.T) {
	for name, shape := range map[string]bedrocksim.Shape{
		"rolling":      bedrocksim.Rolling,
		"calendar":     bedrocksim.Calendar,
		"bucket60":     bedrocksim.Bucket(time.Minute),
		"bucket10":     bedrocksim.Bucket(10 * time.Second),
		"bucket3":      bedrocksim.Bucket(3 * time.Second),
		"bucket1":      bedrocksim.Bucket(time.Second),
		"bucket60and1": bedrocksim.All(bedrocksim.Bucket(time.Minute), bedrocksim.Bucket(time.Second)),
	} {
		t.Run(name, func(t *testing.T) {
			models := map[string]bedrocksim.Model{sonnet: {TPM: 200_000, Shape: shape, Latency: usual, Output: bedrocksim.Range{Min: 100, Max: 200}}}
			inWorld(t, models, `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","tpm":200000}],"burndown":5}}`, 1, func(w *world) {
				for i := range 1000 {
					w.enqueue(0, converse(fmt.Sprintf("j%d", i), "sonnet", 100+rand.IntN(900), 500))
				}
				p := w.drain()
				time.Sleep(2 * time.Minute)
				w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.Neighbour = bedrocksim.Neighbour{Fraction: 0.5} })
				time.Sleep(2 * time.Minute)
				w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.Neighbour = bedrocksim.Neighbour{} })
				took := w.await(40*time.Minute, func() bool { return p.model("sonnet").Succeeded == 1000 }) + 4*time.Minute
				w.empty(p, time.Minute)
				w.wantResults(map[job.Status]int{job.Succeeded: 1000})
				var settled int64
				for _, s := range w.aws.Bedrock().Stats() {
					settled += s.Settled
				}
				// One minute of the four was the neighbour's.
				use := float64(settled) / (200_000 * (took.Minutes() - 1))
				w.Logf("took %v, %.0f %% of what the neighbour left, %d throttles", took, 100*use, w.throttles())
				if use < 0.7 {
					w.Errorf("used %.0f %% of the quota that was left", 100*use)
				}
				if n := w.throttles(); n > 60 {
					w.Errorf("%d throttles for 1000 jobs", n)
				}
			})
		})
	}
}

// The 429s that CloudWatch is told of are those that Bedrock gave.
func TestThrottlesArePublished(t *testing.T) {
	models := sim(300)
	models[sonnet] = bedrocksim.Model{RPM: 60, Latency: usual}
	inWorld(t, models, sonnetRPM, 1, func(w *world) {
		w.enqueueMany(0, 200, "sonnet", "j")
		p := w.drain()
		w.empty(p, 20*time.Minute)
		p.end()
		var throttles, invocations float64
		for _, d := range w.aws.Metrics("Sluice", "Throttles") {
			throttles += d.Value * d.Count
		}
		for _, d := range w.aws.Metrics("Sluice", "Invocations") {
			invocations += d.Value * d.Count
		}
		if throttles != float64(w.throttles()) || throttles == 0 {
			w.Errorf("CloudWatch was told of %v throttles, Bedrock gave %d", throttles, w.throttles())
		}
		if invocations != 200 {
			w.Errorf("CloudWatch was told of %v invocations", invocations)
		}
		var rates int
		for _, d := range w.aws.Metrics("Sluice", "ThrottleRate") {
			if d.Value > 0 && d.Unit == "Percent" {
				rates++
			}
		}
		if rates == 0 {
			w.Error("no throttle rate was published")
		}
	})
}
