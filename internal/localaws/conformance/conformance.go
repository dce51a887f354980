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
	"slices"
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
	// Deviations are the cases of the suite that the target is known to get
	// wrong, by name.
	Deviations map[string]Deviation
}

// Deviation is how a target gets a case wrong. The case must then fail just so:
// we learn when the target changes, for better or for worse.
type Deviation struct {
	Does string // what the target does
	Page string // where it is said what AWS does
	// Fails has a part of the text of each of the case's failures.
	Fails []string
}

// check compares the failures of a case with those that were expected of it.
func (d Deviation) check(t *testing.T, failures []string) {
	t.Helper()
	for _, text := range d.Fails {
		if !slices.ContainsFunc(failures, func(f string) bool { return strings.Contains(f, text) }) {
			t.Errorf("deviates no longer: no failure says %q", text)
		}
	}
	for _, f := range failures {
		if !slices.ContainsFunc(d.Fails, func(text string) bool { return strings.Contains(f, text) }) {
			t.Errorf("deviates otherwise: %s", f)
		}
	}
	t.Logf("%s deviates as known: %s; %s", t.Name(), d.Does, d.Page)
}

const (
	// patience bounds one case in real time.
	patience = time.Minute
	// grace is how much longer than it must something may take in real time. Too
	// small, and a slow emulator on a busy machine fails; too large, and a long
	// poll of ten seconds that does not wake passes.
	grace = 3 * time.Second
)

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
		deviation, deviates := target.Deviations[name]
		c := &caseT{T: t, grace: grace, deviates: deviates}
		if !deviates {
			f(ctx, c, target.Config(t))
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() { f(ctx, c, target.Config(t)) }) // Fatal ends this goroutine only
		wg.Wait()
		deviation.check(t, c.failures)
	})
}

// covers fails where a deviation names no case of the suite.
func (target Target) covers(t *testing.T, names []string) {
	t.Helper()
	for name := range target.Deviations {
		if !slices.Contains(names, name) {
			t.Errorf("there is no case %q to deviate from", name)
		}
	}
}

// caseT is the testing.T of one case. Where the target deviates, a failure is
// what is expected.
type caseT struct {
	*testing.T
	grace    time.Duration
	deviates bool

	mu       sync.Mutex // guards what follows
	failures []string
}

func (c *caseT) Errorf(format string, args ...any) {
	c.Helper()
	if !c.deviates {
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
	if !c.deviates {
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
