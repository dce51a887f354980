// Package conformance says what Sluice relies on in SQS, S3 and CloudWatch, as
// suites that run against any endpoint: the embedded AWS always, and emulators
// or AWS itself where their endpoint is given, so that the embedded one cannot
// drift from the real. The suites know nothing of Sluice's own packages. Tests
// call them; they import the SDK and the testing package.
package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
)

// Target is one endpoint that a suite runs against.
type Target struct {
	// Config returns the configuration of the clients of one case.
	Config func(t *testing.T) aws.Config
	// Virtual says that the target lives in this process and knows no network:
	// each case then runs in a bubble, where waiting costs nothing.
	Virtual bool
	// Deviations are the cases that the target is known to get wrong, and how.
	// Such a case must fail, so that we learn when the target changes.
	Deviations map[string]string
}

// patience bounds one case in real time.
const patience = time.Minute

// run runs one case. A slow one, which waits longer than a few seconds, is for
// virtual time only.
func (target Target) run(t *testing.T, name string, slow bool, f func(ctx context.Context, t *caseT, cfg aws.Config)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		if target.Virtual {
			synctest.Test(t, func(t *testing.T) { f(t.Context(), &caseT{T: t}, target.Config(t)) })
			return
		}
		if slow {
			t.Skip("takes minutes or hours in real time")
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c := &caseT{T: t, deviation: target.Deviations[name]}
		if c.deviation == "" {
			f(ctx, c, target.Config(t))
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() { f(ctx, c, target.Config(t)) }) // Fatal ends this goroutine only
		wg.Wait()
		if len(c.failures) == 0 {
			t.Errorf("deviates no longer: %s", c.deviation)
		}
		t.Logf("deviates as known: %s\n%s", c.deviation, strings.Join(c.failures, "\n"))
	})
}

// caseT is the testing.T of one case. Where the target deviates, a failure is
// what is expected.
type caseT struct {
	*testing.T
	deviation string

	mu       sync.Mutex // guards what follows
	failures []string
}

func (c *caseT) Errorf(format string, args ...any) {
	c.Helper()
	if c.deviation == "" {
		c.T.Errorf(format, args...)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, fmt.Sprintf(format, args...))
}

func (c *caseT) Error(args ...any) {
	c.Helper()
	c.Errorf("%s", fmt.Sprint(args...))
}

func (c *caseT) Fatalf(format string, args ...any) {
	c.Helper()
	c.Errorf(format, args...)
	if c.deviation == "" {
		c.FailNow()
	}
	runtime.Goexit()
}

func (c *caseT) Fatal(args ...any) {
	c.Helper()
	c.Fatalf("%s", fmt.Sprint(args...))
}

// unique returns a name that nobody else uses on a shared endpoint.
func unique(prefix string) string {
	return prefix + "-" + strings.ToLower(rand.Text()[:16])
}

// check ends the case when an operation that must succeed does not.
func check(t testing.TB, doing string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", doing, err)
	}
}

// refused checks that the error is of type E.
func refused[E error](t testing.TB, doing string, err error) {
	t.Helper()
	if _, ok := errors.AsType[E](err); !ok {
		t.Errorf("%s: got %v, want a %T", doing, err, *new(E))
	}
}

// refusedAs checks the code of an error that the SDK has no type for.
func refusedAs(t testing.TB, doing string, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != code {
		t.Errorf("%s: got %v, want code %s", doing, err, code)
	}
}
