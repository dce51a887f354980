package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// buildFlags are how the commands are built: as the test itself is.
var buildFlags = []string{"build"}

// commands are the programs of a scenario, by file name.
type commands string

// build builds them from this tree.
func build(t *testing.T) commands {
	t.Helper()
	// go test stores a pass until a file changes that the test has read, and it
	// does not see what go build reads: so look at every directory ourselves.
	err := filepath.WalkDir("../..", func(_ string, d fs.DirEntry, err error) error {
		if d != nil && (d.Name() == ".git" || d.Name() == "build") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", append(buildFlags, "-o", dir, "./cmd/producer", "./cmd/drainer", "./localstack/bedrocksim")...)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return commands(dir)
}

// process is a command at work.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdout output
	stderr output
	ended  chan struct{}
	err    error // of Wait; set before ended is closed
}

// start starts a command, which is killed with the test if it has not ended.
func (c commands) start(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, ended: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(string(c), name), args...)
	p.cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("kill %s: %v", name, err)
		}
		<-p.ended
		if t.Failed() {
			t.Logf("%s wrote\n%s%s", name, p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// run runs a command to its end, which must be a success, and returns its
// standard output.
func (c commands) run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	p := c.start(t, env, name, args...)
	p.succeeds(time.Minute)
	return p.stdout.String()
}

// succeeds waits for the process to end with exit code 0.
func (p *process) succeeds(patience time.Duration) {
	p.t.Helper()
	select {
	case <-p.ended:
		if p.err != nil {
			p.t.Fatalf("%s: %v", p.name, p.err)
		}
	case <-time.After(patience):
		p.t.Fatalf("%s: still running after %v", p.name, patience)
	}
}

// terminate sends the signal with which a platform stops a service.
func (p *process) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("terminate %s: %v", p.name, err)
	}
}

// says waits until the process has written what the expression matches, and
// returns its first group.
func (p *process) says(expression string) string {
	p.t.Helper()
	re := regexp.MustCompile(expression)
	var found string
	p.until("it says "+expression, 10*time.Second, func() bool {
		m := re.FindStringSubmatch(p.stderr.String())
		if m != nil {
			found = m[1]
		}
		return m != nil
	})
	return found
}

// until waits for a condition while the process runs.
func (p *process) until(what string, patience time.Duration, condition func() bool) {
	p.t.Helper()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-p.ended:
			p.t.Fatalf("%s ended before %s: %v", p.name, what, p.err)
		case <-deadline:
			p.t.Fatalf("%s: waited %v in vain until %s", p.name, patience, what)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// output is what a process has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
