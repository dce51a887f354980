package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/drainer"
)

// What a process of this program is to be, where it is not the bench itself.
const (
	roleVariable    = "BENCH_ROLE"
	profileVariable = "BENCH_PROFILE" // path without the ending; "" for none
)

// A role works until its context ends, which means that the process is ending.
var roles = map[string]func(context.Context, aws.Config, config.Config) error{
	"drainer": drain,
	"bare":    bareLoop,
}

// perform is the life of a measured process: it works until its standard input
// ends, with the bench or at its wish. Everything has been settled by then, and
// winding up would only wait for an open long poll.
func perform(role string) error {
	cfg, err := config.LoadForRun(os.Environ())
	if err != nil {
		return err
	}
	ac, err := awsconfig.LoadDefaultConfig(context.Background())
	if err != nil {
		return fmt.Errorf("load the AWS configuration: %w", err)
	}
	profiled, err := profile(os.Getenv(profileVariable))
	if err != nil {
		return err
	}
	stop := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		stop <- err
	}()
	failed := make(chan error, 1)
	go func() { failed <- roles[role](context.Background(), ac, cfg) }()
	select {
	case err := <-failed:
		return fmt.Errorf("the %s ended by itself: %w", role, err)
	case err := <-stop:
		return errors.Join(err, profiled())
	}
}

// drain is the drainer as "drainer run" composes it, but for the admin listener.
func drain(ctx context.Context, ac aws.Config, cfg config.Config) error {
	d, err := drainer.New(cfg, ac, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// profile begins a CPU profile; the function that it returns ends it and adds
// one of the heap.
func profile(path string) (end func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	cpu, err := os.Create(path + ".cpu.prof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		heap, err := os.Create(path + ".heap.prof")
		if err != nil {
			return err
		}
		return errors.Join(pprof.WriteHeapProfile(heap), heap.Close(), cpu.Close())
	}, nil
}

// process is a measured process, as the bench sees it.
type process struct {
	role   string
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer  // to be read when it has ended
	ended  chan struct{} // closed
	err    error         // of its end
}

// start runs this program again in a role. Its profiles, if wanted, are called
// by the part of the bench.
func (w *world) start(ctx context.Context, role string, p plan, part string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	proc := &process{role: role, cmd: exec.CommandContext(ctx, program), ended: make(chan struct{})}
	proc.cmd.Env = append(w.env, roleVariable+"="+role)
	if p.profile != "" {
		if err := os.MkdirAll(p.profile, 0o755); err != nil {
			return nil, err
		}
		proc.cmd.Env = append(proc.cmd.Env, profileVariable+"="+filepath.Join(p.profile, part+"-"+role))
	}
	proc.cmd.Stderr = &proc.stderr
	if proc.stdin, err = proc.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := proc.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	go func() {
		proc.err = proc.cmd.Wait()
		close(proc.ended)
	}()
	return proc, nil
}

// stop ends the process. To do so again is harmless.
func (p *process) stop() error {
	p.stdin.Close() // an error says that it was closed, or the process has ended
	timer := time.AfterFunc(10*time.Second, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.ended
	if p.err != nil {
		return p.failure()
	}
	return nil
}

// failure is the end of a process that was not asked to end, or did so badly.
func (p *process) failure() error {
	return fmt.Errorf("the process of the %s ended: %w\n%s", p.role, errors.Join(p.err), p.stderr.Bytes())
}

// processorTime is what the process used, once it has ended.
func (p *process) processorTime() time.Duration {
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// peakResident is the most memory that the process has had resident, in bytes,
// and whether this system can tell. getrusage cannot: on Linux its maximum
// includes what the parent had before the child became a program of its own.
func (p *process) peakResident() (n int64, ok bool, err error) {
	if runtime.GOOS != "linux" {
		return 0, false, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, false, err
	}
	for line := range bytes.Lines(text) {
		if _, err := fmt.Sscanf(string(line), "VmHWM: %d kB", &n); err == nil {
			return n << 10, true, nil
		}
	}
	return 0, false, fmt.Errorf("no VmHWM in the status of process %d", p.cmd.Process.Pid)
}
