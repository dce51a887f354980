// Command throughput measures what the drainer costs where no quota holds it
// back: jobs a second beside a bare loop of the same SDK calls, SQS calls a job,
// memory with a thousand invocations in flight, and how soon an idle drainer
// starts a job. It serves the embedded AWS from its own process; the drainer
// and the bare loop run one at a time, each in a process of its own that talks
// to it over loopback. It judges no change by itself: its figures are for
// people to compare, and a missed target is no error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `throughput: what the drainer costs where no quota holds it back

Usage: go run ./bench/throughput [flags]

Exit code: 0 measured, whether the targets are met or not; 2 usage; 1 it could
not be measured.

Flags:
`

// plan is how much is measured.
type plan struct {
	rounds   int // of the drainer and of the bare loop each
	jobs     int // in a round
	inFlight int // at once, in a round

	resident int           // in flight while memory is measured
	latency  time.Duration // of an invocation meanwhile

	pickups int

	short   bool
	json    bool
	profile string // folder, "" for none
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		if err := perform(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (exit int) {
	p, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "throughput:", err)
		return 2
	}
	r, err := measure(ctx, p, stderr)
	if err == nil && p.json {
		err = r.writeJSON(stdout)
	} else if err == nil {
		err = r.writeText(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "throughput:", err)
		return 1
	}
	return 0
}

func parse(args []string, stdout io.Writer) (plan, error) {
	p := plan{resident: 1000, latency: 4 * time.Second}
	flags := flag.NewFlagSet("throughput", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run prints the error, once and without the usage
	flags.IntVar(&p.rounds, "rounds", 5, "`rounds` of the drainer, and as many of the bare loop")
	flags.IntVar(&p.jobs, "jobs", 6000, "`jobs` of 1 KiB in a round")
	flags.IntVar(&p.inFlight, "in-flight", 64, "`invocations` at once in a round, of either")
	flags.IntVar(&p.pickups, "pickups", 300, "`jobs` sent to an idle drainer, one after the other")
	flags.BoolVar(&p.short, "short", false, "a smoke of a few seconds, whose figures mean nothing; overrides the numbers above")
	flags.BoolVar(&p.json, "json", false, "print JSON")
	flags.StringVar(&p.profile, "profile", "", "write CPU and heap profiles of the measured processes to this `folder`")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return p, err
	case err != nil:
		return p, err
	case flags.NArg() > 0:
		return p, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case p.rounds < 1, p.jobs < 1, p.inFlight < 1, p.pickups < 1:
		return p, errors.New("numbers must be at least 1")
	}
	if p.short {
		p.rounds, p.jobs, p.pickups = 1, 200, 10
		p.resident, p.latency = 100, time.Second
	}
	return p, nil
}

// measure does everything, one thing at a time: the processes share the
// machine's cores.
func measure(ctx context.Context, p plan, progress io.Writer) (report, error) {
	r := newReport(p)
	for _, part := range []func(context.Context, plan, io.Writer) ([]figure, error){throughput, memory, pickup} {
		figures, err := part(ctx, p, progress)
		if err != nil {
			return r, err
		}
		r.Figures = append(r.Figures, figures...)
	}
	return r, nil
}
