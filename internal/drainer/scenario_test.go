package drainer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/internal/metrics"
	"github.com/sluicehq/sluice/job"
)

// Models' configurations and what the simulator is told of the same models.
const (
	sonnetRPM = `{"sonnet":{"routes":[{"model_id":"` + sonnet + `","region":"us-east-1","rpm":300}]}}`
	withHaiku = `{"sonnet":{"routes":[{"model_id":"` + sonnet + `","region":"us-east-1","rpm":60}],"fallback":["haiku"]},
		"haiku":{"routes":[{"model_id":"` + haiku + `","region":"us-east-1","rpm":600}]}}`
	sonnetAndNova = `{"sonnet":{"routes":[{"model_id":"` + sonnet + `","region":"us-east-1","rpm":60}]},
		"nova":{"routes":[{"model_id":"` + nova + `","region":"us-east-1","rpm":300}]}}`
)

var usual = bedrocksim.Latency{Base: 500 * time.Millisecond, PerToken: 5 * time.Millisecond, Jitter: 0.3}

func sim(rpm float64) map[string]bedrocksim.Model {
	return map[string]bedrocksim.Model{
		sonnet: {RPM: rpm, Latency: usual},
		haiku:  {RPM: 600, Latency: usual},
		nova:   {RPM: 6000, Latency: usual},
	}
}

// enqueueMany sends n jobs for the model to a queue, "<prefix>0" and on.
func (w *world) enqueueMany(queue, n int, model, prefix string, marks ...string) {
	w.Helper()
	for i := range n {
		w.enqueue(queue, converse(fmt.Sprintf("%s%d", prefix, i), model, 100, 64, marks...))
	}
}

// wantResults compares the results by status, and checks that nothing was paid
// for twice.
func (w *world) wantResults(want map[job.Status]int) {
	w.Helper()
	if diff := cmp.Diff(want, w.results()); diff != "" {
		w.Errorf("results (-want +got):\n%s", diff)
	}
	if n := w.paidTwice(); n != 0 {
		w.Errorf("%d jobs paid for twice", n)
	}
}

// wantBuried compares the dead-letter queue by reason.
func (w *world) wantBuried(want map[job.Reason]int) {
	w.Helper()
	if diff := cmp.Diff(want, w.buried()); diff != "" {
		w.Errorf("buried (-want +got):\n%s", diff)
	}
}

func TestEveryJobIsAnsweredOnceAtThePaceOfTheQuota(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.enqueueMany(0, 600, "sonnet", "j")
		p := w.drain()
		took := w.await(10*time.Minute, func() bool { return p.model("sonnet").Succeeded == 600 })
		w.empty(p, time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 600})
		if took > 130*time.Second {
			w.Errorf("600 jobs at 300 a minute took %v", took)
		}
		if n := w.throttles(); n > 6 {
			w.Errorf("%d throttles", n)
		}
		s := p.Snapshot()
		if s.Models[0].QuotaBound < 90*time.Second {
			w.Errorf("the quota was the limit for %v only", s.Models[0].QuotaBound)
		}
		if s.Releases > 60 {
			w.Errorf("%d releases", s.Releases)
		}
	})
}

func TestEachEndOfAJob(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		past := converse("late", "sonnet", 100, 64)
		past.Deadline = time.Now().Add(-time.Hour)
		w.enqueue(0,
			converse("fine", "sonnet", 100, 64),
			converse("bad", "sonnet", 100, 64, "[[sim:reject]]"),
			converse("who", "opus", 100, 64),
			converse("huge", "sonnet", 100, 64),
			past,
		)
		w.send(0, `{"id":"typo","run":"test","modle":"sonnet"}`)
		w.send(0, `not json`)
		w.send(0, `{"id":"gone","run":"test","payload":"s3://results/payloads/absent"}`)
		w.send(0, `{"id":"foreign","run":"test","payload":"s3://elsewhere/payloads/x"}`)
		p := w.drain()
		w.empty(p, 5*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 2, job.Failed: 5, job.Expired: 1})
		w.wantBuried(map[job.Reason]int{job.Malformed: 2, job.UnknownModel: 1, job.Payload: 2})
		for id, want := range map[string]job.Reason{
			"bad": job.Rejected, "late": job.DeadlinePast, "who": job.UnknownModel,
			"typo": job.Malformed, "gone": job.Payload, "foreign": job.Payload,
		} {
			if r := w.result(id); r.Error == nil || r.Error.Reason != want {
				w.Errorf("%s ended with %+v, want %s", id, r.Error, want)
			}
		}
		if strings.Contains(w.logged.String(), "wwww") {
			w.Error("a prompt was logged")
		}
	})
}

// A dead letter says what is wrong with it, quoting none of its values.
func TestADeadLetterSaysWhatIsWrong(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		long := strings.Repeat("p", 1000)
		bodies := map[string]string{
			`{"model":"secret","converse":{}}`:                             "model: no configured model has that name",
			`{"model":"sonnet","fallback":["haiku","secret"],"invoke":{}}`: "fallback[0]: no configured model has that name",
			`{"model":5,"converse":{"secret":1}}`:                          "model: must be a string, is a number",
			`{"modle":"secret"}`:                                           "modle: unknown field",
			`secret`:                                                       "not a JSON object",
			`{"\n\uffff` + long + `":"secret"}`:                            "??" + long[:38] + "...: unknown field",
			`{"payload":"s3://elsewhere/secret"}`:                          "",
		}
		for body := range bodies {
			w.send(0, body)
		}
		w.empty(w.drain(), 5*time.Minute)
		out, err := w.sqs.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{
			QueueUrl: &w.cfg.DLQURL, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			w.Fatal(err)
		}
		got := map[string]string{}
		for _, m := range out.Messages {
			got[*m.Body] = trail(m).Detail
		}
		if diff := cmp.Diff(bodies, got); diff != "" {
			w.Errorf("details (-want +got):\n%s", diff)
		}
		if log := w.logged.String(); strings.Contains(log, "secret") || !strings.Contains(log, `detail="modle: unknown field"`) {
			w.Error("the log does not say what is wrong, or quotes a value")
		}
	})
}

func TestASuccessIsFinalAndAFailureIsNot(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		p := w.drain()
		first := converse("a", "sonnet", 100, 64)
		other := converse("a", "sonnet", 200, 64)
		w.enqueue(0, first)
		w.empty(p, time.Minute)
		w.enqueue(0, first, other)
		w.empty(p, time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 1})
		w.wantBuried(map[job.Reason]int{job.Conflict: 1})

		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.Faults = []bedrocksim.Fault{{Kind: bedrocksim.Reject, Rate: 1}} })
		w.enqueue(0, converse("b", "sonnet", 100, 64))
		w.empty(p, time.Minute)
		if r := w.result("b"); r.Status != job.Failed {
			w.Fatalf("b is %s", r.Status)
		}
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.Faults = nil })
		w.enqueue(0, converse("b", "sonnet", 100, 64))
		w.empty(p, time.Minute)
		if r := w.result("b"); r.Status != job.Succeeded {
			w.Errorf("b, enqueued again, is %s", r.Status)
		}
	})
}

func TestThrottlesNeverFailAJob_azul3708(t *testing.T) {
	models := sim(300)
	models[sonnet] = bedrocksim.Model{RPM: 30, Latency: usual} // a tenth of what is configured
	inWorld(t, models, sonnetRPM, 1, func(w *world) {
		w.enqueueMany(0, 120, "sonnet", "j")
		p := w.drain()
		w.empty(p, 30*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 120})
		s := p.Snapshot()
		w.Logf("%d throttles, %d releases, %v", w.throttles(), s.Releases, s.At.Sub(s.Started))
	})
}

func TestFallbackWhileTheDayIsGone(t *testing.T) {
	models := sim(60)
	inWorld(t, models, withHaiku, 1, func(w *world) {
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.TPD = 1000 })
		w.enqueueMany(0, 100, "sonnet", "j")
		none := converse("none", "sonnet", 100, 64)
		none.Fallback = []string{}
		w.enqueue(0, none)
		p := w.drain()
		time.Sleep(5 * time.Minute)
		if n := w.results()[job.Succeeded]; n != 100 {
			w.Errorf("%d succeeded while the day was gone, want 100", n)
		}
		if r := w.result("j99"); r.Model != "haiku" {
			w.Errorf("j99 was answered by %s", r.Model)
		}
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.TPD = 0 })
		w.empty(p, 40*time.Minute)
		if r := w.result("none"); r.Model != "sonnet" || r.Status != job.Succeeded {
			w.Errorf("the job without fallback: %+v", r)
		}
	})
}

// fault makes every request of a service fail while on is set.
func (w *world) fault(prefix string, on *atomic.Bool, answer func(http.ResponseWriter, *http.Request)) {
	w.faultOn(prefix, "", on, answer)
}

// faultOn does so with those that have the text in their path or body.
func (w *world) faultOn(prefix, text string, on *atomic.Bool, answer func(http.ResponseWriter, *http.Request)) {
	w.aws.Intercept(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !on.Load() || !strings.HasPrefix(localaws.Operation(r), prefix) {
				next.ServeHTTP(rw, r)
				return
			}
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if strings.Contains(r.URL.Path+string(body), text) {
				answer(rw, r)
				return
			}
			next.ServeHTTP(rw, r)
		})
	})
}

func unavailable(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
}
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
func refuse(http.ResponseWriter, *http.Request)   { panic(http.ErrAbortHandler) }
func denied(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Amzn-ErrorType", "ExpiredTokenException")
	w.WriteHeader(http.StatusForbidden)
	fmt.Fprint(w, `{"message":"The security token included in the request is expired"}`)
}

// A dependency that is away for a minute costs time and nothing else.
func TestAMinuteWithout(t *testing.T) {
	for _, c := range []struct {
		what, prefix string
		answer       func(http.ResponseWriter, *http.Request)
		unready      bool // readiness must say so
		lines        int  // warnings and errors logged, at most
	}{
		{"S3Refusing", "S3.", refuse, true, 3},
		{"S3Unavailable", "S3.", unavailable, true, 3},
		{"S3Hanging", "S3.", hang, true, 3},
		{"CloudWatchHanging", "CloudWatch.", hang, false, 3},
		{"SQSUnavailable", "SQS.", unavailable, true, 3},
		{"DeletesRefused", "SQS.DeleteMessageBatch", denied, true, 1},
		{"ModelUnavailable", "Bedrock.", unavailable, true, 3},
		{"CredentialsExpired", "", denied, true, 8},
		{"BedrockCredentialsExpired", "Bedrock.", denied, true, 3},
	} {
		t.Run(c.what, func(t *testing.T) {
			inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
				w.enqueueMany(0, 600, "sonnet", "j")
				p := w.drain()
				time.Sleep(20 * time.Second)
				var on atomic.Bool
				on.Store(true)
				w.fault(c.prefix, &on, c.answer)
				time.Sleep(45 * time.Second)
				ready := p.Snapshot().NotReadyReason
				if (ready != "") != c.unready {
					w.Errorf("readiness says %q", ready)
				}
				time.Sleep(15 * time.Second)
				on.Store(false)
				w.empty(p, 20*time.Minute)
				if ready := p.Snapshot().NotReadyReason; ready != "" {
					w.Errorf("afterwards readiness says %q", ready)
				}
				got := w.results()
				if diff := cmp.Diff(map[job.Status]int{job.Succeeded: 600}, got); diff != "" {
					w.Errorf("results (-want +got):\n%s", diff)
				}
				if n := w.paidTwice(); n != 0 {
					w.Errorf("%d jobs paid for twice", n)
				}
				w.wantBuried(map[job.Reason]int{})
				if n := strings.Count(w.logged.String(), "level=WARN") + strings.Count(w.logged.String(), "level=ERROR"); n > c.lines {
					w.Errorf("%d warnings for one outage", n)
				}
				s := p.Snapshot()
				w.Logf("took %v, releases %d, lost %d, calls %v", s.At.Sub(s.Started), s.Releases, s.LeasesLost, w.aws.Calls())
			})
		})
	}
}

// While results can be looked for and not written, nothing is paid for: a look
// proves no write.
func TestNothingIsPaidForWhileNothingCanBeWritten(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 4, func(w *world) {
		w.enqueueMany(0, 1000, "sonnet", "j")
		p := w.drain()
		time.Sleep(time.Minute)
		var on atomic.Bool
		on.Store(true)
		w.fault("S3.PutObject", &on, func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(rw, `<Error><Code>KMS.DisabledException</Code></Error>`)
		})
		before := p.model("sonnet").Invocations
		for i := range 100 { // into queues whose long polls are open
			w.enqueueMany(1+i%3, 1, "sonnet", fmt.Sprintf("k%d-", i))
			time.Sleep(3 * time.Second)
		}
		if n := p.model("sonnet").Invocations - before; n > 30 {
			w.Errorf("%d answers were paid for in an outage", n)
		}
		on.Store(false)
		w.empty(p, time.Hour)
		w.wantResults(map[job.Status]int{job.Succeeded: 1100})
	})
}

func TestStopUnderLoad(t *testing.T) {
	models := sim(6000)
	models[sonnet] = bedrocksim.Model{RPM: 6000, Latency: bedrocksim.Latency{Base: 30 * time.Second, Jitter: 0.9}}
	inWorld(t, models, `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":6000}]}}`, 1, func(w *world) {
		w.enqueueMany(0, 2000, "sonnet", "j")
		p := w.drain()
		time.Sleep(20 * time.Second)
		began, before := time.Now(), p.Snapshot()
		p.stop()
		time.Sleep(time.Second)
		if status, body := p.ask("/readyz"); status != 503 || body != "the drainer is stopping\n" {
			w.Errorf("readyz answers %d, %q while stopping", status, body)
		}
		if err := p.end(); err != nil {
			w.Errorf("it ended with %v", err)
		}
		if took := time.Since(began); took > w.cfg.Grace {
			w.Errorf("the stop took %v", took)
		}
		// All that was held is accounted for.
		after := p.Snapshot()
		ended := after.Receives.N - before.Receives.N
		if n := after.Sources[0].Received - int64(after.Receives.N) - after.Releases; after.Cancelled == 0 || after.Cancelled > after.Releases || n != 0 {
			w.Errorf("%d cancelled, %d released, %d neither released nor ended", after.Cancelled, after.Releases, n)
		}
		if line := fmt.Sprintf("msg=stopped finished=%d cancelled=%d released=%d took=", ended, after.Cancelled, after.Releases-before.Releases); !strings.Contains(w.logged.String(), line) {
			w.Errorf("the log does not say %s", line)
		}
		time.Sleep(2 * time.Second) // SQS's counts
		out, err := w.sqs.GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{QueueUrl: &w.queues[0], AttributeNames: []types.QueueAttributeName{"All"}})
		if err != nil {
			w.Fatal(err)
		}
		done := w.results()[job.Succeeded]
		if got, want := out.Attributes["ApproximateNumberOfMessages"], fmt.Sprint(2000-done); got != want {
			w.Errorf("%s visible after the stop, want %s (%d done, %s in flight)", got, want, done, out.Attributes["ApproximateNumberOfMessagesNotVisible"])
		}
		next := w.drain()
		w.empty(next, 20*time.Minute)
		if diff := cmp.Diff(map[job.Status]int{job.Succeeded: 2000}, w.results()); diff != "" {
			w.Errorf("results (-want +got):\n%s", diff)
		}
		w.Logf("%d done before the stop, %d paid twice", done, w.paidTwice())
	})
}

func TestAMixedQueueDoesNotHoldUpTheFastModel(t *testing.T) {
	models := sim(300)
	inWorld(t, models, `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":300}]},
		"nova":{"routes":[{"model_id":"`+nova+`","region":"us-east-1","rpm":1200}]}}`, 1, func(w *world) {
		n := 400
		if raceEnabled {
			n = 100
		}
		for i := range n {
			w.enqueueMany(0, 10, "sonnet", fmt.Sprintf("slow%d-", i))
			w.enqueueMany(0, 1, "nova", fmt.Sprintf("fast%d-", i))
		}
		p := w.drain()
		began := time.Now()
		fast := w.await(20*time.Minute, func() bool { return p.model("nova").Succeeded == int64(n) })
		w.Logf("the %d fast ones took %v", n, fast)
		if own := time.Duration(n) * time.Minute / 1200; fast > own*3/2 {
			w.Errorf("the %d fast ones took %v, at their own pace they take %v", n, fast, own)
		}
		w.empty(p, time.Hour)
		s := p.Snapshot()
		took := time.Since(began)
		if own := time.Duration(10*n) * time.Minute / 300; took > own*21/20+10*time.Second { // to begin and to notice the end
			w.Errorf("all took %v, at their own pace they take %v", took, own)
		}
		if results := len(w.keys()); results != 11*n || w.paidTwice() != 0 || p.model("sonnet").Succeeded != int64(10*n) {
			w.Errorf("%d results, %d paid twice, %d slow ones succeeded", results, w.paidTwice(), p.model("sonnet").Succeeded)
		}
		w.wantBuried(map[job.Reason]int{})
		most := 0.0
		s.Receives.Buckets(func(v float64, _ uint64) { most = max(most, v) })
		w.Logf("took %v; receives per job: %.2f on average, %.0f at most; %d releases, calls %v", took, s.Receives.Sum/float64(s.Receives.N), most, s.Releases, w.aws.Calls())
		if most >= 10 {
			w.Errorf("a job was received %.0f times", most)
		}
	})
}

// Jobs of a model that starts one in minutes wait in the queue until their turn is
// near, however long the queue is.
func TestASlowModelsJobsAreNotReceivedOverAndOver(t *testing.T) {
	models := sim(300)
	models[sonnet] = bedrocksim.Model{RPM: 1, Latency: usual}
	models[nova] = bedrocksim.Model{RPM: 300, Latency: usual}
	inWorld(t, models, `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":1}]},
		"nova":{"routes":[{"model_id":"`+nova+`","region":"us-east-1","rpm":300}]}}`, 1, func(w *world) {
		const n = 120
		for i := range n {
			w.enqueueMany(0, 1, "sonnet", fmt.Sprintf("slow%d-", i))
			w.enqueueMany(0, 3, "nova", fmt.Sprintf("fast%d-", i))
		}
		p := w.drain()
		took := w.await(2*n*time.Minute, func() bool { return p.model("sonnet").Succeeded == n })
		w.Logf("took %v; %.2f receives a job", took, float64(p.Snapshot().Sources[0].Received)/(4*n))
		if took > n*time.Minute*21/20 {
			w.Errorf("the %d slow ones took %v at one a minute", n, took)
		}
		if received := p.Snapshot().Sources[0].Received; received > 3*n+3*n {
			w.Errorf("%d received for %d jobs, of which %d are slow", received, 4*n, n)
		}
	})
}

// A free model's jobs behind those of one that can't start are found, whether
// that is saturated or parked for the day.
func TestAFreeModelIsFoundBehindAClosedOne(t *testing.T) {
	n := 3000
	if raceEnabled {
		n = 400
	}
	for name, tpd := range map[string]int64{"saturated": 0, "parked": 1} {
		t.Run(name, func(t *testing.T) {
			models := sim(60)
			models[sonnet] = bedrocksim.Model{RPM: 60, TPD: tpd, Latency: usual}
			models[nova] = bedrocksim.Model{RPM: 300, Latency: usual}
			inWorld(t, models, sonnetAndNova, 1, func(w *world) {
				w.enqueueMany(0, n, "sonnet", "closed")
				w.enqueueMany(0, 300, "nova", "free")
				p := w.drain()
				took := w.await(time.Hour, func() bool { return p.model("nova").Succeeded == 300 })
				if own := 300 * time.Minute / 300; took > own*3/2 {
					w.Errorf("the 300 free ones took %v, at their own pace they take %v", took, own)
				}
				if received := p.Snapshot().Sources[0].Received; received > int64(3*(n+300)/2) {
					w.Errorf("%d received to find 300 of %d", received, n+300)
				}
			})
		})
	}
}

// A queue of nothing but a parked model is searched once for the jobs of a free
// one, and then sampled.
func TestAParkedQueueIsNotSearchedOverAndOver(t *testing.T) {
	if raceEnabled {
		t.Skip("6,000 jobs are no fewer for the race detector: fewer would be within the search")
	}
	models := sim(60)
	models[sonnet] = bedrocksim.Model{TPD: 1, Latency: usual}
	inWorld(t, models, sonnetAndNova, 2, func(w *world) {
		w.enqueueMany(0, 6000, "sonnet", "parked")
		p := w.drain()
		time.Sleep(time.Hour)
		w.enqueueMany(1, 300, "nova", "free")
		took := w.await(time.Hour, func() bool { return p.model("nova").Succeeded == 300 })
		if took > 90*time.Second {
			w.Errorf("the free model's jobs took %v in a queue of their own", took)
		}
		// Looked past 5,000 once; since then, samples of ten each 10 s.
		if n := p.Snapshot().Sources[0].Received; n < 5000 || n > 5000+3600*11/10 {
			w.Errorf("%d received in an hour", n)
		}
	})
}

// A saturated model's jobs in a queue of their own are searched once for those
// of a free model, not each time a start makes room.
func TestASaturatedQueueIsNotSearchedOverAndOver(t *testing.T) {
	if raceEnabled {
		t.Skip("6,000 jobs are no fewer for the race detector: fewer would be within the search")
	}
	inWorld(t, sim(60), sonnetAndNova, 2, func(w *world) {
		w.enqueueMany(0, 6000, "sonnet", "saturated")
		p := w.drain()
		time.Sleep(30 * time.Minute)
		received, answered := p.Snapshot().Sources[0].Received, p.model("sonnet").Succeeded
		if received-answered > 5000*11/10 || answered < 1700 {
			w.Errorf("%d received in half an hour of 60 a minute, %d of them answered", received, answered)
		}
	})
}

// What is published is what the table of metrics says, all of it.
func TestMetricsAreThoseOfTheTable(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		p := w.drain()
		w.enqueueMany(0, 50, "sonnet", "j")
		w.empty(p, time.Minute)
		if err := metrics.Check(p.Samples()); err != nil {
			w.Error(err)
		}
	})
}
