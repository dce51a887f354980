package drainer_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/job"
)

func TestTheLowerQueueGetsItsPart(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 2, func(w *world) {
		w.enqueueMany(0, 900, "sonnet", "high")
		w.enqueueMany(1, 900, "sonnet", "low")
		p := w.drain()
		time.Sleep(2 * time.Minute)
		var high, low int
		for _, k := range w.keys() {
			if strings.Contains(k, "high") {
				high++
			} else {
				low++
			}
		}
		if part := float64(low) / float64(high+low); part < 0.04 || part > 0.08 {
			w.Errorf("the lower queue got %d of %d, want 5 %%", low, high+low)
		}
		w.empty(p, 20*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 1800})
	})
}

// An idle queue of higher priority, whose long poll is open, holds nobody up.
func TestAnIdleQueueHoldsNobodyUp_conductor3541(t *testing.T) {
	inWorld(t, sim(6000), `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":6000}]}}`, 3, func(w *world) {
		p := w.drain()
		time.Sleep(90 * time.Second) // the first minute is unknown
		for i := range 20 {
			sent := time.Now()
			w.enqueueMany(2, 1, "sonnet", fmt.Sprintf("j%d-", i))
			w.await(5*time.Second, func() bool {
				return p.model("sonnet").InFlight > 0 || p.model("sonnet").Succeeded > int64(i)
			})
			if wait := time.Since(sent); wait > 500*time.Millisecond {
				w.Errorf("job %d started after %v", i, wait)
			}
			time.Sleep(3 * time.Second)
		}
		w.empty(p, time.Minute)
	})
}

// A message that comes late in a long poll is not believed lost: the visibility's
// clock started with it, and ours when the poll did.
func TestALongPollIsShorterThanTheVisibility(t *testing.T) {
	inWorld(t, sim(6000), sonnetRPM, 1, func(w *world) {
		w.cfg.Visibility = 10 * time.Second
		p := w.drain()
		time.Sleep(90 * time.Second)
		for i := range 20 {
			time.Sleep(39 * time.Second)
			w.enqueueMany(0, 1, "sonnet", fmt.Sprintf("j%d-", i))
		}
		w.empty(p, time.Minute)
		if s := p.Snapshot(); s.Sources[0].Received != 20 || s.LeasesLost != 0 {
			w.Errorf("%d received for 20 jobs, %d leases lost", s.Sources[0].Received, s.LeasesLost)
		}
	})
}

// The long polls of idle queues leave room for those that come last, also while
// jobs with large bodies are in flight.
func TestIdleQueuesLeaveRoomToOthers(t *testing.T) {
	models := map[string]bedrocksim.Model{sonnet: {RPM: 6000, Latency: bedrocksim.Latency{Base: 10 * time.Minute}}}
	inWorld(t, models, `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":6000}]}}`, 8, func(w *world) {
		w.cfg.MaxInFlightBytes = 32 << 20
		p := w.drain()
		time.Sleep(90 * time.Second)
		for i := range 80 {
			w.enqueue(0, converse(fmt.Sprintf("large%d", i), "sonnet", 25_000, 64))
		}
		time.Sleep(time.Minute)
		for q := range w.queues {
			w.enqueueMany(q, 1, "sonnet", fmt.Sprintf("q%d-", q))
		}
		time.Sleep(time.Minute)
		for q, s := range p.Snapshot().Sources {
			if s.Received == 0 {
				w.Errorf("queue %d was not received", q)
			}
		}
		if n := p.model("sonnet").InFlight; n != 88 {
			w.Errorf("%d in flight, want the 80 large ones and one of each queue", n)
		}
	})
}

func TestAPoolUsesBothRegions(t *testing.T) {
	inWorld(t, sim(120), `{"sonnet":{"routes":[
		{"model_id":"`+sonnet+`","region":"us-east-1","rpm":120},
		{"model_id":"`+sonnet+`","region":"us-west-2","rpm":120}]}}`, 1, func(w *world) {
		w.enqueueMany(0, 480, "sonnet", "j")
		p := w.drain()
		took := w.await(10*time.Minute, func() bool { return p.model("sonnet").Succeeded == 480 })
		if took > 140*time.Second {
			w.Errorf("480 jobs over two routes of 120 a minute took %v", took)
		}
		w.empty(p, time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 480})
	})
}

// A model that is away for an hour costs the jobs that have no fallback an hour.
func TestAnHourOf503FailsNothing(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) {
			m.Faults = []bedrocksim.Fault{{Kind: bedrocksim.Unavailable, Rate: 1, Until: time.Hour}}
		})
		w.enqueueMany(0, 200, "sonnet", "j")
		p := w.drain()
		time.Sleep(time.Hour - 5*time.Minute)
		tried := p.model("sonnet").Capacity
		if tried > 300 {
			w.Errorf("%d tries in an hour of 503", tried)
		}
		w.empty(p, 30*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 200})
		w.Logf("%d tries, %d releases, %v", tried, p.Snapshot().Releases, w.aws.Calls())
	})
}

// A brownout in which hardly anything is answered, without a quota problem.
func TestABrownoutFailsNothing(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) {
			m.Faults = []bedrocksim.Fault{{Kind: bedrocksim.Unavailable, Rate: 0.95, Until: 10 * time.Minute}}
		})
		w.enqueueMany(0, 300, "sonnet", "j")
		p := w.drain()
		w.empty(p, 40*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 300})
		w.Logf("%d capacity errors, %d releases", p.model("sonnet").Capacity, p.Snapshot().Releases)
	})
}

// A job that makes the model fail ends; the others don't notice.
func TestAPoisonJobFailsAlone(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.enqueue(0, converse("poison", "sonnet", 100, 64, "[[sim:status=500]]"))
		p := w.drain()
		for i := range 100 {
			w.enqueueMany(0, 1, "sonnet", fmt.Sprintf("j%d-", i))
			time.Sleep(3 * time.Second)
		}
		w.empty(p, 20*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 100, job.Failed: 1})
		if r := w.result("poison"); r.Error.Reason != job.Unavailable {
			w.Errorf("the poison job ended with %+v", r.Error)
		}
	})
}

// One job whose access is refused does not stop the route, and ends only once
// the route has answered others in between.
func TestARefusedJobFailsAlone(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.enqueue(0, converse("refused", "sonnet", 100, 64, "[[sim:status=403]]"))
		p := w.drain()
		for i := range 60 {
			w.enqueueMany(0, 1, "sonnet", fmt.Sprintf("j%d-", i))
			time.Sleep(10 * time.Second)
		}
		w.empty(p, 20*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 60, job.Failed: 1})
		if r := w.result("refused"); r.Error.Reason != job.Unauthorized {
			w.Errorf("the refused job ended with %+v", r.Error)
		}
	})
}

func TestAJobAboveTheWholeQuota(t *testing.T) {
	models := map[string]bedrocksim.Model{sonnet: {TPM: 20_000, Latency: usual, Shape: bedrocksim.Bucket(time.Minute)}}
	inWorld(t, models, `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","tpm":20000}]}}`, 1, func(w *world) {
		w.enqueue(0,
			converse("never", "sonnet", 100, 30_000),  // its own max_tokens says so
			converse("perhaps", "sonnet", 25_000, 64), // the estimate of its input might be wrong
		)
		w.enqueueMany(0, 60, "sonnet", "j")
		p := w.drain()
		w.empty(p, 3*time.Hour)
		if r := w.result("never"); r.Error == nil || r.Error.Reason != job.Oversize || r.Attempts != 0 {
			w.Errorf("never: %+v", r)
		}
		if r := w.result("perhaps"); r.Status != job.Succeeded {
			w.Errorf("a full bucket admits it: %+v", r.Error)
		}
		if n := w.results()[job.Succeeded]; n != 61 {
			w.Errorf("%d succeeded", n)
		}
	})
}

func TestAJobThatNoMinuteAdmitsFailsWithTheArithmetic(t *testing.T) {
	models := map[string]bedrocksim.Model{sonnet: {TPM: 20_000, Latency: usual}}
	inWorld(t, models, `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","tpm":20000}]}}`, 1, func(w *world) {
		w.enqueue(0, converse("huge", "sonnet", 25_000, 64))
		w.enqueueMany(0, 60, "sonnet", "j")
		p := w.drain()
		w.empty(p, 6*time.Hour)
		r := w.result("huge")
		if r.Error == nil || r.Error.Reason != job.Oversize || !strings.Contains(r.Error.Message, "20000 a minute") {
			w.Errorf("huge: %+v", r.Error)
		}
		if n := w.results()[job.Succeeded]; n != 60 {
			w.Errorf("%d succeeded", n)
		}
	})
}

// Releases never add up to a burial: from 20 receives on they are renewals.
func TestReleasesNeverAddUpToABurial(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.TPD = 1 })
		sent := time.Now()
		w.enqueueMany(0, 5, "sonnet", "j")
		p := w.drain()
		time.Sleep(30 * time.Hour)
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.TPD = 0 })
		w.empty(p, time.Hour)
		w.wantResults(map[job.Status]int{job.Succeeded: 5})
		w.wantBuried(map[job.Reason]int{})
		if p.Snapshot().Renewals == 0 {
			w.Error("nothing was renewed in 30 hours")
		}
		if r := w.result("j0"); r.EnqueuedAt.Sub(sent) > time.Minute {
			w.Errorf("a renewal changed the submission to %v, %v after it", r.EnqueuedAt, r.EnqueuedAt.Sub(sent))
		}
		if n := w.throttles(); n > 30*4+10 {
			w.Errorf("%d probes in 30 hours", n)
		}
	})
}

// What is being handled ends as expired, with a result, before SQS drops it.
func TestAJobEndsBeforeItsRetention(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.TPD = 1 })
		w.keepFor(0, 12*time.Hour)
		w.enqueueMany(0, 3, "sonnet", "j")
		p := w.drain()
		w.await(12*time.Hour, func() bool { return p.model("sonnet").Expired == 3 })
		w.wantResults(map[job.Status]int{job.Expired: 3})
	})
}

func TestAJobThatKillsTheProcessIsBuried(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.cfg.MaxReceives = 21
		w.enqueueMany(0, 1, "sonnet", "j")
		w.receiveInVain(21)
		p := w.drain()
		w.empty(p, time.Minute)
		w.wantResults(map[job.Status]int{job.Failed: 1})
		w.wantBuried(map[job.Reason]int{job.Receives: 1})
	})
}

// A release by a process that does not know where the receipts come from forgets
// none of them: they may be of processes that the job has killed.
func TestARenewalForgetsOwnReleasesOnly(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.TPD = 1 })
		w.enqueueMany(0, 1, "sonnet", "j")
		w.receiveInVain(45)
		p := w.drain()
		time.Sleep(20 * time.Second)
		p.end()
		if n := p.Snapshot().Renewals; n != 0 {
			w.Errorf("%d renewals of a job that was released once", n)
		}
		p = w.drain()
		time.Sleep(2 * time.Hour)
		if n := p.Snapshot().Renewals; n != 1 {
			w.Errorf("%d renewals of a job that was released each quarter of an hour", n)
		}
		w.wantBuried(map[job.Reason]int{})
	})
}

// receiveInVain receives a message so often without an end.
func (w *world) receiveInVain(times int) {
	w.Helper()
	for range times {
		if _, err := w.sqs.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &w.queues[0], VisibilityTimeout: 1, WaitTimeSeconds: 5}); err != nil {
			w.Fatal(err)
		}
		time.Sleep(2 * time.Second)
	}
}

func TestALargeJobTravelsAsAPayload(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		large, err := converse("large", "sonnet", 1<<19, 64).Encode()
		if err != nil {
			w.Fatal(err)
		}
		if _, err := w.s3.PutObject(context.Background(), &s3.PutObjectInput{
			Bucket: aws.String("results"), Key: aws.String("payloads/large"), Body: strings.NewReader(string(large)),
		}); err != nil {
			w.Fatal(err)
		}
		w.send(0, `{"payload":"s3://results/payloads/large","id":"large","run":"test"}`)
		p := w.drain()
		w.empty(p, 5*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 1})
		if held := p.Snapshot().BytesHeld; held > 10<<20 { // a long poll's
			w.Errorf("%d bytes held at rest", held)
		}
	})
}

func TestCopiesAreSentAndKeptWhileTheirQueueIsAway(t *testing.T) {
	inWorld(t, sim(600), `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":600}]}}`, 1, func(w *world) {
		w.cfg.ResultsQueueURL = w.aws.CreateQueue("copies", nil)
		var on atomic.Bool
		w.fault("SQS.SendMessageBatch", &on, unavailable)
		w.enqueueMany(0, 400, "sonnet", "j")
		on.Store(true)
		p := w.drain()
		time.Sleep(2 * time.Minute)
		if n := p.model("sonnet").Succeeded; n < 100 || n > 250 {
			w.Errorf("%d answered while no copy could be sent: nothing new after 100", n)
		}
		if ready := p.Snapshot().NotReadyReason; !strings.Contains(ready, "copies") {
			w.Errorf("readiness says %q", ready)
		}
		on.Store(false)
		w.empty(p, 10*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 400})
		var want []string
		for i := range 400 {
			want = append(want, fmt.Sprintf("j%d", i))
		}
		w.wantCopies(want...)
	})
}

// A few copies that can't be sent hold up no queue, however slow: who waits with
// them will not start.
func TestAFewCopiesThatWaitHoldUpNobody(t *testing.T) {
	inWorld(t, sim(60), `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":60}]}}`, 1, func(w *world) {
		w.cfg.ResultsQueueURL = w.aws.CreateQueue("copies", nil)
		p := w.drain()
		w.enqueueMany(0, 20, "sonnet", "stuck")
		w.empty(p, 5*time.Minute)
		var on atomic.Bool
		on.Store(true)
		w.faultOn("SQS.SendMessageBatch", "stuck", &on, unavailable)
		w.enqueueMany(0, 20, "sonnet", "stuck") // answered
		w.enqueueMany(0, 20, "opus", "stuck-too")
		time.Sleep(time.Minute)
		w.enqueueMany(0, 10, "sonnet", "good")
		took := w.await(10*time.Minute, func() bool { return p.model("sonnet").Succeeded == 30 })
		if took > time.Minute {
			w.Errorf("10 jobs at 60 a minute took %v", took)
		}
		on.Store(false)
		w.empty(p, 5*time.Minute)
	})
}

// Whoever waits for a job that is none is told, also where the drainer stopped
// before the copy went through; and it is buried once.
func TestTheCopyOfABuriedJobOutlivesAStop(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.cfg.ResultsQueueURL = w.aws.CreateQueue("copies", nil)
		var on atomic.Bool
		on.Store(true)
		w.faultOn("SQS.SendMessageBatch", "/copies", &on, unavailable)
		w.send(0, `{"id":"typo","run":"test","modle":"sonnet"}`)
		w.send(0, `{"id":"gone","run":"test","payload":"s3://results/payloads/absent"}`)
		w.enqueue(0, converse("who", "opus", 100, 64))
		p := w.drain()
		time.Sleep(30 * time.Second)
		p.end()
		time.Sleep(time.Minute) // what was under way
		on.Store(false)
		w.empty(w.drain(), 5*time.Minute)
		w.wantCopies("gone", "typo", "who")
		w.wantBuried(map[job.Reason]int{job.Malformed: 1, job.Payload: 1, job.UnknownModel: 1})
	})
}

// The copy of a job past its deadline is tried as long as any other's, and given
// up only when SQS is about to drop the message.
func TestTheCopyOfALateJobIsNoLessKept(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.keepFor(0, 2*time.Hour)
		w.cfg.ResultsQueueURL = w.aws.CreateQueue("copies", nil)
		p := w.drain()
		var on atomic.Bool
		on.Store(true)
		w.faultOn("SQS.SendMessageBatch", "/copies", &on, unavailable)
		late, just := converse("late", "sonnet", 100, 64), converse("just", "sonnet", 100, 64)
		late.Deadline, just.Deadline = time.Now().Add(-time.Second), time.Now().Add(3*time.Second)
		w.enqueue(0, late, just)
		time.Sleep(30 * time.Second)
		p.end()
		time.Sleep(time.Minute) // what was under way
		p = w.drain()
		time.Sleep(10 * time.Minute)
		on.Store(false)
		w.empty(p, 10*time.Minute)
		w.wantCopies("just", "late")
		w.wantResults(map[job.Status]int{job.Succeeded: 1, job.Expired: 1})

		on.Store(true)
		w.enqueueMany(0, 1, "sonnet", "never")
		time.Sleep(112 * time.Minute)
		if n := p.Snapshot().CopiesLost; n != 0 {
			w.Errorf("%d copies lost long before two hours were over", n)
		}
		time.Sleep(4 * time.Minute)
		if n := p.Snapshot().CopiesLost; n != 1 {
			w.Errorf("%d copies lost shortly before two hours were over", n)
		}
	})
}

// A copy is shortened until a message holds it, whatever the job says.
func TestNoJobIsTooLongForACopy(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.cfg.ResultsQueueURL = w.aws.CreateQueue("copies", nil)
		w.send(0, `{"id":"name","run":"test","model":"`+strings.Repeat("<", 200_000)+`","invoke":{}}`)
		body := string(must(converse("trace", "sonnet", 10, 10).Encode()))
		if _, err := w.sqs.SendMessage(context.Background(), &sqs.SendMessageInput{QueueUrl: &w.queues[0], MessageBody: &body,
			MessageAttributes: map[string]types.MessageAttributeValue{"traceparent": {DataType: aws.String("String"), StringValue: aws.String(strings.Repeat("0", 600_000))}},
		}); err != nil {
			w.Fatal(err)
		}
		w.empty(w.drain(), time.Minute)
		w.wantCopies("name", "trace")
	})
}

// A results queue for messages so small that none holds the name of a result
// costs the copies, and no job.
func TestACopyThatFitsNowhereIsLost(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.cfg.ResultsQueueURL = w.aws.CreateQueue("copies", map[string]string{"MaximumMessageSize": "1024"})
		w.cfg.Results.Prefix = strings.Repeat("x", 980) + "/"
		long := converse("long", "sonnet", 100, 64)
		long.Metadata = map[string]string{"note": strings.Repeat("x", 1000)}
		w.enqueue(0, long)
		p := w.drain()
		w.empty(p, time.Minute)
		if s := p.Snapshot(); s.CopiesLost != 1 || s.NotReadyReason != "" {
			w.Errorf("%d copies lost, readiness says %q", s.CopiesLost, s.NotReadyReason)
		}
	})
}

// A result that can't be read any more is named in its copy: one that went into
// an archive, say.
func TestTheCopyOfAnArchivedResultNamesIt(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.cfg.ResultsQueueURL = w.aws.CreateQueue("copies", nil)
		p := w.drain()
		w.enqueueMany(0, 1, "sonnet", "j")
		w.empty(p, time.Minute)
		w.wantCopies("j0")
		var on atomic.Bool
		on.Store(true)
		w.faultOn("S3.GetObject", "/j0", &on, func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusForbidden)
			fmt.Fprint(rw, `<Error><Code>InvalidObjectState</Code></Error>`)
		})
		w.enqueueMany(0, 1, "sonnet", "j")
		w.empty(p, time.Minute)
		w.wantCopies("j0")
	})
}

// What waits for its copy takes room: no more is received than can be kept.
func TestWhatCantBeKeptIsNotReceived(t *testing.T) {
	inWorld(t, sim(60_000), `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":60000}]}}`, 1, func(w *world) {
		w.cfg.MaxInFlight = 20
		w.cfg.ResultsQueueURL = w.aws.CreateQueue("copies", nil)
		w.enqueueMany(0, 400, "sonnet", "j")
		p := w.drain()
		w.empty(p, time.Hour)
		var on atomic.Bool
		on.Store(true)
		w.faultOn("SQS.SendMessageBatch", "/copies", &on, func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(19 * time.Second) // no error yet
			unavailable(rw, r)
		})
		before := p.Snapshot().Sources[0].Received
		w.enqueueMany(0, 400, "sonnet", "j") // all answered
		time.Sleep(10 * time.Second)
		if n := p.Snapshot().Sources[0].Received - before; n < 20 || n > 150 {
			w.Errorf("%d received while no copy could be sent, want some 120", n)
		}
		on.Store(false)
		w.empty(p, time.Hour)
	})
}

// Two drainers on one queue, each with half of the quota.
func TestTwoDrainersShareAQueue(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.cfg.QuotaFraction = 0.5
		w.enqueueMany(0, 600, "sonnet", "j")
		a, b := w.drain(), w.drain()
		took := w.await(10*time.Minute, func() bool { return a.model("sonnet").Succeeded+b.model("sonnet").Succeeded >= 600 })
		w.empty(a, time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 600})
		w.Logf("%v, %d throttles", took, w.throttles())
	})
}

// The sender's tenant and trace reach the result, and survive a burial.
func TestGroupAndTraceAreCarried(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		trace := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		for _, body := range []string{`{"id":"bad","run":"test","model":"sonnet"}`, string(must(converse("good", "sonnet", 10, 10).Encode()))} {
			if _, err := w.sqs.SendMessage(context.Background(), &sqs.SendMessageInput{
				QueueUrl: &w.queues[0], MessageBody: &body, MessageGroupId: aws.String("tenant-1"),
				MessageAttributes: map[string]types.MessageAttributeValue{"traceparent": {DataType: aws.String("String"), StringValue: &trace}},
			}); err != nil {
				w.Fatal(err)
			}
		}
		p := w.drain()
		w.empty(p, time.Minute)
		for _, id := range []string{"good", "bad"} {
			if r := w.result(id); r.Group != "tenant-1" || r.Traceparent != trace {
				w.Errorf("%s: group %q, trace %q", id, r.Group, r.Traceparent)
			}
		}
		out, err := w.sqs.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{
			QueueUrl: &w.cfg.DLQURL, MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
		})
		if err != nil || len(out.Messages) != 1 {
			w.Fatalf("%v, %v", out, err)
		}
		m := out.Messages[0]
		got := trail(m)
		want := job.Trail{
			ID: "bad", Run: "test", Submitted: got.Submitted, Source: w.queues[0],
			Reason: job.Malformed, Detail: "one of converse and invoke is wanted", BuriedAt: got.BuriedAt,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.Errorf("sluice attribute (-want +got):\n%s", diff)
		}
		if *m.MessageAttributes["traceparent"].StringValue != trace || m.Attributes["MessageGroupId"] != "tenant-1" {
			w.Errorf("buried with %v %v", m.MessageAttributes, m.Attributes)
		}
	})
}

// A batch job that hangs ends by its time-out, paid once for each try.
func TestAHangingModelEndsByTimeout(t *testing.T) {
	inWorld(t, sim(300), `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":300}],"timeout":"1m"}}`, 1, func(w *world) {
		w.enqueue(0, converse("hang", "sonnet", 100, 64, "[[sim:hang]]"))
		p := w.drain()
		for i := range 40 {
			w.enqueueMany(0, 1, "sonnet", fmt.Sprintf("j%d-", i))
			time.Sleep(5 * time.Second)
		}
		w.empty(p, 10*time.Minute)
		r := w.result("hang")
		if r.Status != job.Failed || r.Error.Reason != job.Unavailable || r.Attempts != 2 {
			w.Errorf("hang: %+v, %d attempts", r.Error, r.Attempts)
		}
		if n := w.results()[job.Succeeded]; n != 40 {
			w.Errorf("%d succeeded", n)
		}
	})
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// keys lists the result objects of the run.
func (w *world) keys() (keys []string) {
	pages := s3.NewListObjectsV2Paginator(w.s3, &s3.ListObjectsV2Input{Bucket: aws.String("results"), Prefix: aws.String("out/test/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			w.Fatal(err)
		}
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	return keys
}

// A model that was away is used again when it is back, also where every job has
// a fallback: somebody has to be the probe.
func TestAModelWithFallbackIsProbed(t *testing.T) {
	inWorld(t, sim(60), withHaiku, 1, func(w *world) {
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) {
			m.Faults = []bedrocksim.Fault{{Kind: bedrocksim.Unavailable, Rate: 1, Until: 2 * time.Minute}}
		})
		w.enqueueMany(0, 30, "sonnet", "a")
		p := w.drain()
		time.Sleep(10 * time.Minute)
		for i := range 60 {
			w.enqueueMany(0, 1, "sonnet", fmt.Sprintf("b%d-", i))
			time.Sleep(10 * time.Second)
		}
		w.empty(p, 20*time.Minute)
		by := map[string]int{}
		for i := range 60 {
			by[w.result(fmt.Sprintf("b%d-0", i)).Model]++
		}
		if by["sonnet"] < 50 {
			w.Errorf("8 to 18 minutes after sonnet was back, answered by %v", by)
		}
	})
}

// Refused credentials cost a small backlog minutes, although each of its jobs
// was refused.
func TestASmallBacklogSurvivesRefusals(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		var on atomic.Bool
		on.Store(true)
		w.fault("Bedrock.", &on, denied)
		w.enqueueMany(0, 5, "sonnet", "j")
		p := w.drain()
		time.Sleep(10 * time.Minute)
		on.Store(false)
		w.await(15*time.Minute, func() bool { return p.model("sonnet").Succeeded == 5 })
	})
}

// Jobs that need a whole minute leave nine in ten to the others.
func TestOversizeJobsDoNotBlock(t *testing.T) {
	models := map[string]bedrocksim.Model{sonnet: {TPM: 20_000, Latency: usual, Shape: bedrocksim.Bucket(time.Minute)}}
	inWorld(t, models, `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","tpm":20000}]}}`, 1, func(w *world) {
		for i := range 4 {
			w.enqueue(0, converse(fmt.Sprintf("big%d", i), "sonnet", 25_000, 64))
		}
		w.enqueueMany(0, 600, "sonnet", "j") // some 400 tokens each: 12 minutes
		p := w.drain()
		time.Sleep(5 * time.Minute)
		if m := p.model("sonnet"); m.Large == 0 || m.Large > 4 || !m.NextTry.After(time.Now()) {
			w.Errorf("the status says that %d large jobs wait, until %v", m.Large, m.NextTry)
		}
		if !strings.Contains(w.logged.String(), "sonnet.default_max_tokens: 64000 is above") {
			w.Error("the log does not warn of the model's default")
		}
		time.Sleep(15 * time.Minute)
		if n := p.model("sonnet").Succeeded; n < 550 {
			w.Errorf("%d answered in 20 minutes, want the 600 small ones", n)
		}
		w.empty(p, 3*time.Hour)
		w.wantResults(map[job.Status]int{job.Succeeded: 604})
		if m := p.model("sonnet"); m.Large != 0 {
			w.Errorf("the status says that %d large jobs wait, of none", m.Large)
		}
	})
}

// A job without max_tokens is counted once, however often it is received.
func TestUnboundedCountsJobs(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) {
			m.Faults = []bedrocksim.Fault{{Kind: bedrocksim.Unavailable, Rate: 1, Until: 5 * time.Minute}}
		})
		for i := range 20 {
			w.send(0, fmt.Sprintf(`{"id":"j%d","run":"test","model":"sonnet","converse":{"messages":[{"role":"user","content":[{"text":"x"}]}]}}`, i))
		}
		w.enqueue(0, converse("bounded", "sonnet", 100, 64))
		p := w.drain()
		w.empty(p, 20*time.Minute)
		if s := p.Snapshot(); s.Unbounded != 20 || s.Releases == 0 {
			w.Errorf("%d of 20 jobs without max_tokens, with %d releases", s.Unbounded, s.Releases)
		}
	})
}

// While the dead-letter queue refuses, the delivery is released with a doubling
// delay, and another drainer's success makes this one ready again.
func TestARefusingDeadLetterQueueIsAskedLessAndLess(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.send(0, `{"id":"typo","run":"test","modle":"sonnet"}`)
		var on atomic.Bool
		var sends atomic.Int64
		on.Store(true)
		w.fault("SQS.SendMessageBatch", &on, func(rw http.ResponseWriter, r *http.Request) {
			sends.Add(1)
			unavailable(rw, r)
		})
		p := w.drain()
		time.Sleep(time.Hour)
		if n := sends.Load(); n > 100 {
			w.Errorf("%d sends to a refusing queue in an hour", n)
		}
		if ready := p.Snapshot().NotReadyReason; !strings.Contains(ready, "dead-letter") {
			w.Errorf("readiness says %q", ready)
		}
		on.Store(false)
		w.empty(p, time.Hour)
		w.wantBuried(map[job.Reason]int{job.Malformed: 1})
	})
}

func TestARefusedPayloadIsAskedForLessAndLess(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.send(0, `{"payload":"s3://results/payloads/large","id":"large","run":"test"}`)
		var gets atomic.Int64
		w.aws.Intercept(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == "GET" && strings.Contains(r.URL.Path, "payloads/large") {
					gets.Add(1)
					rw.WriteHeader(http.StatusForbidden)
					return
				}
				next.ServeHTTP(rw, r)
			})
		})
		p := w.drain()
		time.Sleep(time.Hour)
		if n := gets.Load(); n > 50 || n < 3 {
			w.Errorf("%d gets of one refused payload in an hour", n)
		}
		if ready := p.Snapshot().NotReadyReason; ready != "" {
			w.Errorf("one payload makes the drainer unready: %q", ready)
		}
	})
}

// A job behind a payload that can't be read ends with a result like any other.
func TestARefusedPayloadEndsBeforeItsRetention(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.keepFor(0, time.Hour)
		var on atomic.Bool
		on.Store(true)
		w.fault("S3.GetObject", &on, denied)
		w.send(0, `{"payload":"s3://results/payloads/large","id":"large","run":"test"}`)
		w.empty(w.drain(), 55*time.Minute)
		on.Store(false)
		w.wantResults(map[job.Status]int{job.Expired: 1})
		if r := w.result("large"); r.Error == nil || r.Error.Reason != job.DeadlinePast {
			w.Errorf("it ended with %+v", r.Error)
		}
	})
}

// A payload job that was answered, and whose payload can't be read when it comes again,
// is not taken for another that failed.
func TestAnAnsweredPayloadStaysAnswered(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.keepFor(0, time.Hour)
		w.cfg.ResultsQueueURL = w.aws.CreateQueue("copies", nil)
		body := must(converse("large", "sonnet", 10, 10).Encode())
		if _, err := w.s3.PutObject(context.Background(), &s3.PutObjectInput{
			Bucket: aws.String("results"), Key: aws.String("payloads/large"), Body: bytes.NewReader(body),
		}); err != nil {
			w.Fatal(err)
		}
		pointer := `{"payload":"s3://results/payloads/large","id":"large","run":"test"}`
		p := w.drain()
		w.send(0, pointer)
		w.empty(p, 5*time.Minute)
		w.wantCopies("large")
		var on atomic.Bool
		on.Store(true)
		w.faultOn("S3.GetObject", "/payloads/", &on, denied)
		w.send(0, pointer)
		w.empty(p, 70*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 1})
		w.wantBuried(map[job.Reason]int{})
		w.wantCopies("large")
	})
}

// A result that can't be looked at, in a bucket that works, is logged once, and
// hides no outage of the bucket.
func TestOneBadObjectIsLoggedOnce(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.aws.Intercept(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/bad") {
					rw.WriteHeader(http.StatusForbidden)
					return
				}
				next.ServeHTTP(rw, r)
			})
		})
		w.enqueueMany(0, 5, "sonnet", "bad")
		w.enqueueMany(0, 600, "sonnet", "j")
		p := w.drain()
		w.await(10*time.Minute, func() bool { return p.model("sonnet").Succeeded == 600 })
		away := func() int { return strings.Count(w.logged.String(), "dependency away") }
		if n := away(); n != 1 {
			w.Errorf("logged %d times", n)
		}
		var on atomic.Bool
		on.Store(true)
		w.fault("S3.", &on, unavailable)
		w.enqueueMany(0, 5, "sonnet", "k")
		time.Sleep(time.Minute)
		if n := away(); n != 2 {
			w.Errorf("logged %d times with an outage of a minute after it", n)
		}
	})
}

// Jobs without a payload do not need the payloads' bucket, at the start neither.
func TestStartWhilePayloadsAreAway(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		var on atomic.Bool
		on.Store(true)
		w.faultOn("S3.HeadObject", "/payloads/", &on, unavailable)
		w.enqueueMany(0, 1, "sonnet", "j")
		w.empty(w.drain(), 10*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 1})
	})
}

// Releases do not add up to a burial where no process lives through three of them.
func TestRestartsAddUpToNoBurial(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.cfg.MaxReceives = 21
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.TPD = 1 })
		w.enqueueMany(0, 1, "sonnet", "j")
		for range 24 {
			p := w.drain()
			time.Sleep(30 * time.Minute)
			if err := p.end(); err != nil {
				w.Fatal(err)
			}
		}
		w.wantBuried(map[job.Reason]int{})
	})
}

// What a drainer could not work with ends it before it receives anything.
func TestPreflightRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*world)
		want  string
	}{
		"a dead-letter queue for smaller messages": {func(w *world) {
			w.cfg.DLQURL = w.aws.CreateQueue("small", map[string]string{"MaximumMessageSize": "262144"})
			w.cfg.Payloads = nil
		}, "MaximumMessageSize"},
		"payloads of which the absence can't be seen": {func(w *world) {
			var on atomic.Bool
			on.Store(true)
			w.faultOn("S3.HeadObject", "/payloads/", &on, denied)
		}, "s3:ListBucket"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
				c.spoil(w)
				w.enqueueMany(0, 1, "sonnet", "j")
				p := w.drain()
				time.Sleep(2 * time.Minute)
				if err := p.end(); err == nil || !strings.Contains(err.Error(), c.want) {
					w.Errorf("it ended with %v, want an error with %q", err, c.want)
				}
				w.wantResults(map[job.Status]int{})
			})
		})
	}
}

// A job that fits into the account's quota is not too large because this drainer
// may use but a part of it.
func TestAPartOfTheQuotaMakesNoJobTooLarge(t *testing.T) {
	models := map[string]bedrocksim.Model{sonnet: {TPM: 20_000, Latency: usual}}
	inWorld(t, models, `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","tpm":20000}]}}`, 1, func(w *world) {
		w.cfg.QuotaFraction = 0.25
		var on atomic.Bool
		on.Store(true)
		w.fault("Bedrock.", &on, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("X-Amzn-ErrorType", "ThrottlingException")
			rw.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(rw, `{"message":"Too many tokens, please wait before trying again."}`)
		})
		w.enqueue(0, converse("big", "sonnet", 8_000, 64))
		p := w.drain()
		time.Sleep(time.Hour)
		on.Store(false)
		w.empty(p, 3*time.Hour)
		w.wantResults(map[job.Status]int{job.Succeeded: 1})
	})
}

// A part of a quota is firm, even where more is accepted: but for what a bucket
// of a minute would hold at first.
func TestAPartOfTheQuotaIsKept(t *testing.T) {
	inWorld(t, sim(6000), sonnetRPM, 1, func(w *world) {
		w.cfg.QuotaFraction = 0.5 // 150 a minute
		w.enqueueMany(0, 2000, "sonnet", "j")
		p := w.drain()
		last, most := int64(0), int64(0)
		for range 8 {
			time.Sleep(time.Minute)
			n := p.model("sonnet").Succeeded
			if last > 0 {
				most = max(most, n-last)
			}
			last = n
		}
		if most > 170 {
			w.Errorf("%d in a minute, the part is 150", most)
		}
	})
}

// A wait for a slot leaves the job to a drainer that has one.
func TestSlotsAreLeftToOthers(t *testing.T) {
	models := map[string]bedrocksim.Model{sonnet: {RPM: 6000, Latency: bedrocksim.Latency{Base: 5 * time.Minute}}}
	inWorld(t, models, `{"sonnet":{"max_in_flight":4,"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":6000}]}}`, 1, func(w *world) {
		a, b := w.drain(), w.drain()
		time.Sleep(90 * time.Second)
		w.enqueueMany(0, 12, "sonnet", "j")
		w.await(30*time.Minute, func() bool { return a.model("sonnet").Succeeded+b.model("sonnet").Succeeded == 12 })
		if one, other := a.model("sonnet").Succeeded, b.model("sonnet").Succeeded; min(one, other) < 4 {
			w.Errorf("one answered %d, the other %d", one, other)
		}
	})
}

// Whatever hangs, the stop ends within the grace, but for the last second of
// metrics.
func TestTheStopKeepsItsGrace(t *testing.T) {
	rpm := 6000
	if raceEnabled {
		rpm = 1500
	}
	for _, prefix := range []string{"", "S3.", "SQS.", "CloudWatch.", "Bedrock."} {
		t.Run("hanging "+prefix, func(t *testing.T) {
			inWorld(t, sim(float64(rpm)), fmt.Sprintf(`{"sonnet":{"routes":[{"model_id":%q,"region":"us-east-1","rpm":%d}]}}`, sonnet, rpm), 1, func(w *world) {
				w.enqueueMany(0, rpm/3, "sonnet", "j")
				w.send(0, `{"modle":"x"}`)
				p := w.drain()
				time.Sleep(10 * time.Second)
				var on atomic.Bool
				on.Store(true)
				w.fault(prefix, &on, hang)
				time.Sleep(5 * time.Second)
				began := time.Now()
				if err := p.end(); err != nil {
					w.Error(err)
				}
				if took := time.Since(began); took > w.cfg.Grace+1100*time.Millisecond {
					w.Errorf("the stop took %v", took)
				}
				on.Store(false)
			})
		})
	}
}

// While a model is gone, its fallback is kept as busy as its quota allows.
func TestAFallbackIsKeptBusy(t *testing.T) {
	inWorld(t, sim(300), `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":300}],"fallback":["haiku"]},
		"haiku":{"routes":[{"model_id":"`+haiku+`","region":"us-east-1","rpm":600}]}}`, 1, func(w *world) {
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) { m.TPD = 1 })
		w.enqueueMany(0, 1500, "sonnet", "j")
		p := w.drain()
		time.Sleep(2 * time.Minute)
		if n := p.model("haiku").Invocations; n < 1000 {
			w.Errorf("the fallback, of 600 a minute, answered %d in two minutes", n)
		}
	})
}

// A job that merely waits for quota goes to the fallback after fallback_after,
// and not before.
func TestFallbackAfterAWait(t *testing.T) {
	inWorld(t, sim(60), `{"sonnet":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":60}],"fallback":["haiku"],"fallback_after":"1m"},
		"haiku":{"routes":[{"model_id":"`+haiku+`","region":"us-east-1","rpm":600}]}}`, 1, func(w *world) {
		p := w.drain()
		time.Sleep(2 * time.Minute)
		w.enqueueMany(0, 300, "sonnet", "j")
		w.empty(p, 10*time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 300})
		m := p.model("sonnet")
		if m.Fallbacks < 100 || m.Fallbacks > 240 {
			w.Errorf("%d of 300 went to the fallback: at 60 a minute and a burst, 60 to 120 start within a minute", m.Fallbacks)
		}
		for i := range 300 {
			if r := w.result(fmt.Sprintf("j%d", i)); r.Model == "haiku" && r.StartedAt.Sub(r.EnqueuedAt) < 58*time.Second {
				w.Errorf("%s fell back after %v", r.ID, r.StartedAt.Sub(r.EnqueuedAt))
			}
		}
	})
}

// Two aliases over one model share its quota.
func TestTwoAliasesShareOneLedger(t *testing.T) {
	inWorld(t, sim(300), `{"a":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":300}]},
		"b":{"routes":[{"model_id":"`+sonnet+`","region":"us-east-1","rpm":300}],"max_in_flight":8}}`, 1, func(w *world) {
		for i := range 300 {
			w.enqueueMany(0, 1, "a", fmt.Sprintf("a%d-", i))
			w.enqueueMany(0, 1, "b", fmt.Sprintf("b%d-", i))
		}
		p := w.drain()
		took := w.await(10*time.Minute, func() bool { return p.model("a").Succeeded+p.model("b").Succeeded == 600 })
		if took > 130*time.Second || w.throttles() > 8 {
			w.Errorf("600 jobs over one quota of 300 a minute took %v, with %d throttles", took, w.throttles())
		}
		w.empty(p, time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 600})
	})
}

// An answered job is not buried because its model has left the configuration.
func TestAnAnsweredJobNeedsNoModel(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		p := w.drain()
		w.enqueueMany(0, 1, "sonnet", "j")
		w.empty(p, time.Minute)
		if err := p.end(); err != nil {
			w.Fatal(err)
		}
		models, err := config.ParseModels([]byte(`{"haiku":{"routes":[{"model_id":"` + haiku + `","region":"us-east-1","rpm":600}]}}`))
		if err != nil {
			w.Fatal(err)
		}
		w.cfg.Models = models
		w.enqueueMany(0, 1, "sonnet", "j")
		w.empty(w.drain(), time.Minute)
		w.wantResults(map[job.Status]int{job.Succeeded: 1})
		w.wantBuried(map[job.Reason]int{})
	})
}
