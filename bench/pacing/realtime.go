package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/drainer"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

// Some scenarios run again by the real clock, to show that virtual time tells
// the truth: the simulator here, the drainer in a process of its own, loopback
// TCP between them and the same delays on top.

// realName is Sluice in real time, in tables.
const realName = "real time"

// realtime are the scenarios that run in both times: requests bind, tokens bind,
// a neighbour comes and goes. The last is a short form of 8a.
func realtime() []scenario {
	const end = 6*minute + 30*s
	crowd := one("8a", "neighbour takes 40 % of 300 RPM for 130 s", 0, 300, 0, short, bedrocksim.Model{}, nil).with(
		change{2*minute + 30*s, neighbour(0.4)}, change{4*minute + 40*s, neighbour(0)})
	crowd.length = end
	crowd.phases = []phase{
		{name: "40 %", from: 2*minute + 40*s, to: 4*minute + 40*s, left: true, want: crowded(0.4)},
		{name: "gone", from: 5*minute + 30*s, to: end, left: true, want: always(0.95, 0)},
	}
	crowd.settles = []settling{{"40 %", 2*minute + 30*s, 0.9, 10 * s}, {"gone", 4*minute + 40*s, 0.95, 90 * s}}
	return []scenario{
		one("1", "requests bind, 300 RPM", 6, 300, 0, short, bedrocksim.Model{}, always(0.995, 1)),
		one("3b", "over-reserved, 4M TPM", 4, 0, 4_000_000, over, bedrocksim.Model{}, overasking(4_000_000)),
		crowd,
	}
}

// measureRealtime runs the scenarios in virtual time, and then all at once in
// real time.
func (p plan) measureRealtime(t *testing.T, out io.Writer) error {
	r := newReport(p, out)
	var groups []*group
	for _, s := range realtime() {
		for _, f := range p.forms {
			g := &group{scenario: s, form: f, runs: make([][]cell, 1), best: make([][]*tally, 1)}
			p.run(t, g, 0, sluice())
			groups = append(groups, g)
		}
	}
	var runs sync.WaitGroup
	for _, g := range groups {
		runs.Go(func() {
			c := cell{Scenario: g.id, Title: g.title, Shape: g.name, Seed: 1, Pacer: realName, fails: g.fails}
			c.live(&g.scenario, g.form, elsewhere(), &g.best[0], p.series, true)
			g.runs[0] = append(g.runs[0], c)
		})
	}
	runs.Wait()
	var failed []error
	for _, g := range groups {
		failed = append(failed, r.add(g))
	}
	return errors.Join(errors.Join(failed...), r.end())
}

// roleVariable makes a process of this program a drainer.
const roleVariable = "BENCH_ROLE"

// elsewhere is Sluice in a process of its own.
func elsewhere() pacer {
	return pacer{realName, true, func(w *world, _ form) (func() error, error) {
		program, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(program)
		cmd.Env = append(w.env, roleVariable+"=drainer", "SLUICE_ADMIN_ADDR=127.0.0.1:0",
			"AWS_ENDPOINT_URL="+*w.far.BaseEndpoint, "AWS_REGION="+region, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test")
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("start the drainer: %w", err)
		}
		return func() error {
			stdin.Close() // its end is the signal to stop
			if err := cmd.Wait(); err != nil {
				return fmt.Errorf("the drainer: %w\n%s", err, &complaints)
			}
			return nil
		}, nil
	}}
}

// drainUntilEOF is the life of the drainer's process: it stops when its standard
// input ends.
func drainUntilEOF() error {
	cfg, err := config.LoadForRun(os.Environ())
	if err != nil {
		return err
	}
	ac, err := awsconfig.LoadDefaultConfig(context.Background())
	if err != nil {
		return fmt.Errorf("load the AWS configuration: %w", err)
	}
	ac.HTTPClient = &distant{
		HTTPClient: awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, slots
		}),
		lag: lag{random: rand.New(rand.NewPCG(1, 2))},
	}
	d, err := drainer.New(cfg, ac, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		defer stop()
		io.Copy(io.Discard, os.Stdin) // an error is an end, too
	}()
	return d.Run(ctx)
}

// distant adds the network's delays to what is on this machine.
type distant struct {
	aws.HTTPClient
	lag lag
}

func (d *distant) Do(r *http.Request) (*http.Response, error) {
	time.Sleep(d.lag.next())
	answer, err := d.HTTPClient.Do(r)
	time.Sleep(d.lag.next())
	return answer, err
}
