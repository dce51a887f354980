package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

const (
	// shortIdle and up to as much again lies between two jobs: the drainer waits
	// in its long poll, and the delete of the one before still lingers.
	shortIdle = 75 * time.Millisecond
	// longIdle is the gap after each longIdleEvery jobs: nothing at all is left
	// to do.
	longIdle      = 2500 * time.Millisecond
	longIdleEvery = 20
)

// pickup sends one job after the other to an idle drainer, and takes the time
// from the send to the invocation's arrival.
func pickup(ctx context.Context, p plan, progress io.Writer) ([]figure, error) {
	w, err := newWorld(p.pickups, p.inFlight, 0)
	if err != nil {
		return nil, err
	}
	defer w.close()
	proc, err := w.start(ctx, "drainer", p, "pickup")
	if err != nil {
		return nil, err
	}
	defer proc.stop()
	err = until(ctx, proc, func() (bool, error) { return w.aws.Calls()["SQS.ReceiveMessage"] > 0, nil })
	if err != nil {
		return nil, fmt.Errorf("wait for the first receive: %w", err)
	}
	var took []float64 // milliseconds
	for i := range p.pickups {
		idle := shortIdle + rand.N(shortIdle)
		if i%longIdleEvery == longIdleEvery-1 {
			idle = longIdle
		}
		if err := pause(ctx, idle); err != nil {
			return nil, err
		}
		body, err := newJob(i)
		if err != nil {
			return nil, err
		}
		sent := time.Now()
		if _, err := w.sqs.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &w.queue, MessageBody: &body}); err != nil {
			return nil, fmt.Errorf("send a job: %w", err)
		}
		arrived, err := next(ctx, proc, w.invoked)
		if err != nil {
			return nil, err
		}
		took = append(took, float64(arrived.Sub(sent))/float64(time.Millisecond))
		if _, err := next(ctx, proc, w.stored); err != nil {
			return nil, err
		}
	}
	if err := w.done(ctx, proc, p.pickups); err != nil {
		return nil, err
	}
	if err := proc.stop(); err != nil {
		return nil, err
	}
	slices.Sort(took)
	fmt.Fprintf(progress, "pickup: %.1f ms at most\n", took[len(took)-1])
	return []figure{
		{Name: "pickup by an idle drainer, p50", Unit: "ms", Value: quantile(took, 0.5)},
		figure{Name: "pickup by an idle drainer, p99", Unit: "ms", Value: quantile(took, 0.99), Samples: took}.atMost(50),
	}, nil
}

// quantile is the smallest of the sorted values that the part q does not exceed.
func quantile(sorted []float64, q float64) float64 {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
