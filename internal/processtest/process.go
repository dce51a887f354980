// Package processtest runs programs for tests: it builds commands of this module,
// follows what they write, and sees to it that they end with the test. Only tests
// call it; it imports the standard library.
package processtest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// buildFlags are how the commands are built: as the test itself is.
var buildFlags = []string{"build"}

// Build builds packages of the module at root, such as ./cmd/drainer, and returns
// the directory of the programs.
func Build(t testing.TB, root string, packages ...string) (dir string) {
	t.Helper()
	DependOn(t, root)
	dir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", slices.Concat(buildFlags, []string{"-o", dir}, packages)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// DependOn makes a stored pass of the test void when a source of the module at
// root has changed: go test looks just at files that the test itself has read, and
// not at what a go command reads for it.
func DependOn(t testing.TB, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if d != nil && (d.Name() == ".git" || d.Name() == "build") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Process is a program at work.
type Process struct {
	Cmd            *exec.Cmd
	Stdout, Stderr Output // so far

	t     testing.TB
	ended chan struct{}
	err   error // of Wait; set before ended is closed
}

// Output is what was written so far, to be read while more is.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Start starts a command, and kills it at the test's end if it still runs then,
// with all that it has started: what is on the PATH may be a script.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, t: t, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.Stdout, &p.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		select {
		case <-p.ended:
		default:
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Errorf("kill %s: %v", p, err)
			}
			<-p.ended
		}
		if t.Failed() {
			t.Logf("%s wrote\n%s%s", p, &p.Stdout, &p.Stderr)
		}
	})
	return p
}

func (p *Process) String() string { return filepath.Base(p.Cmd.Path) }

// Signal sends the process a signal.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %s: %v", p, err)
	}
}

// Stop stops the process as a platform stops a service, and wants it to end well.
func (p *Process) Stop(patience time.Duration) {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	p.Succeeds(patience)
}

// Succeeds waits for the process to end with exit code 0.
func (p *Process) Succeeds(patience time.Duration) {
	p.t.Helper()
	if code := p.Ends(patience); code != 0 {
		p.t.Fatalf("%s: %v", p, p.err)
	}
}

// Ends waits for the process and returns its exit code.
func (p *Process) Ends(patience time.Duration) (code int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%s: still running after %v", p, patience)
	}
	if _, exited := errors.AsType[*exec.ExitError](p.err); p.err != nil && !exited {
		p.t.Fatalf("%s: %v", p, p.err)
	}
	return p.Cmd.ProcessState.ExitCode()
}

// Says waits until the process has written to stderr what the expression matches,
// and returns its first group.
func (p *Process) Says(expression string) string {
	p.t.Helper()
	re := regexp.MustCompile(expression)
	var found []string
	p.Until("it says "+expression, 20*time.Second, func() bool {
		found = re.FindStringSubmatch(p.Stderr.String())
		return found != nil
	})
	if len(found) == 1 {
		return found[0]
	}
	return found[1]
}

// Until waits for a condition while the process runs.
func (p *Process) Until(what string, patience time.Duration, condition func() bool) {
	p.t.Helper()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-p.ended:
			p.t.Fatalf("%s ended before %s: %v", p, what, p.err)
		case <-deadline:
			p.t.Fatalf("%s: waited %v in vain until %s", p, patience, what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
