// Package infra_test checks what is in this folder without an account: the
// Terraform module is applied to emulators and what comes out is run. There is
// nothing here but tests, and nobody imports it.
//
// What calls terraform runs where SLUICE_TEST_TERRAFORM_PLUGINS names a folder
// of provider plugins, in the layout of a filesystem mirror: ".ci/run infra" looks
// for one. Without it, terraform would download half a gigabyte for a test.
package infra_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicehq/sluice/internal/processtest"
)

// oldProvider stands in the copy of the module that is checked where the plugins
// have no provider that knows queues of 1 MiB (6.8). All else is the same.
const oldProvider = `
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100"
    }
  }
}

resource "aws_sqs_queue" "jobs" {
  max_message_size = 262144
}

resource "aws_sqs_queue" "dead_letters" {
  max_message_size = 262144
}

resource "aws_sqs_queue" "results" {
  max_message_size = 262144
}
`

// onMoto stands in the copy that is applied to moto: it forgets redrive-allow
// policies and the rebalancing of zones, and writes redrive policies its own way,
// so that Terraform would wait for the first and change the others for ever; and
// it obeys a bucket's policy but not the condition in it, so that "TLS only" would
// mean "nobody". These are planned only.
const onMoto = `
resource "aws_sqs_queue" "jobs" {
  redrive_policy = null
}

resource "aws_sqs_queue" "dead_letters" {
  redrive_allow_policy = null
}

resource "aws_s3_bucket_policy" "results" {
  count = 0
}

resource "aws_ecs_service" "drainer" {
  lifecycle {
    ignore_changes = [availability_zone_rebalancing]
  }
}
`

// emulated stands beside an example's own provider block and points it at an
// emulator; where that is, AWS_ENDPOINT_URL says.
const emulated = `
provider "aws" {
  access_key                  = "test"
  secret_key                  = "test"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}
`

// root is a copy of a root module, initialised.
type root struct {
	dir string
	env []string
}

// newRoot copies the module and initialises one of the root modules in it, for
// an emulator at the endpoint.
func newRoot(t *testing.T, name, endpoint string, overrides map[string]string) *root {
	t.Helper()
	plugins := needPlugins(t)
	top := t.TempDir()
	if err := os.CopyFS(top, hcl{os.DirFS(".")}); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(plugins, "*", "hashicorp", "aws", "*"))
	if err != nil {
		t.Fatal(err)
	}
	r := &root{dir: filepath.Join(top, name), env: append(os.Environ(),
		"TF_CLI_CONFIG_FILE="+os.DevNull, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_INPUT=0", "TF_CLI_ARGS=-no-color",
		"AWS_ENDPOINT_URL="+endpoint, "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull,
		"AWS_PROFILE=", "AWS_REGION=", "AWS_DEFAULT_REGION=",
		"TF_VAR_image=123456789012.dkr.ecr.us-east-1.amazonaws.com/sluice:1.0")}
	for name, content := range overrides {
		write(t, filepath.Join(top, name), content)
	}
	write(t, filepath.Join(r.dir, "emulated_override.tf"), emulated)
	if !knowsMebibyte(found) {
		t.Logf("%v has no provider from 6.8 on: max_message_size is checked as 256 KiB", found)
		write(t, filepath.Join(top, "old_provider_override.tf"), oldProvider)
	}
	r.run(t, "init", "-backend=false", "-plugin-dir="+plugins)
	return r
}

// needPlugins returns the folder of provider plugins, or skips the test.
func needPlugins(t *testing.T) string {
	t.Helper()
	plugins := os.Getenv("SLUICE_TEST_TERRAFORM_PLUGINS")
	if plugins == "" {
		t.Skip("SLUICE_TEST_TERRAFORM_PLUGINS names no folder of Terraform's provider plugins")
	}
	needTerraform(t)
	return plugins
}

func needTerraform(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("terraform is not on this machine")
	}
}

// knowsMebibyte reports whether one of the provider's folders is of a version
// from 6.8 on.
func knowsMebibyte(folders []string) bool {
	for _, folder := range folders {
		major, minor, _ := strings.Cut(filepath.Base(folder), ".")
		minor, _, _ = strings.Cut(minor, ".")
		a, _ := strconv.Atoi(major) // what is no version is no new one
		b, _ := strconv.Atoi(minor)
		if a > 6 || a == 6 && b >= 8 {
			return true
		}
	}
	return false
}

// hcl is a file system without what terraform leaves behind in a work tree.
type hcl struct{ fs.FS }

func (h hcl) Open(name string) (fs.File, error) { return h.FS.Open(name) }

func (h hcl) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(h.FS, name)
	var kept []fs.DirEntry
	for _, e := range all {
		if !strings.HasPrefix(e.Name(), ".terraform") && !strings.Contains(e.Name(), ".tfstate") {
			kept = append(kept, e)
		}
	}
	return kept, err
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// try runs terraform in the root module.
func (r *root) try(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	began := time.Now()
	// Longer than any of it takes; an emulator that forgets what it was told would
	// otherwise be waited for until the tests' own time is over.
	// Cleanups destroy, and the context of a test ends before them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "terraform", append([]string{"-chdir=" + r.dir}, args...)...)
	// Asked, it ends its plugins with itself.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = r.env, &out, &errs
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	t.Logf("terraform %s: %.1f s", args[0], time.Since(began).Seconds())
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (r *root) run(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := r.try(t, args...)
	if code != 0 {
		t.Fatalf("terraform %s: exit code %d\n%s\n%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// shell runs commands in the root module's folder.
func (r *root) shell(t *testing.T, commands string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", commands)
	cmd.Dir, cmd.Env = r.dir, append(r.env, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
}

// resource is one resource of a state or a plan.
type resource struct {
	Address string
	Type    string
	Name    string
	Index   any
	Values  map[string]any
}

type module struct {
	Resources []resource
	Children  []module `json:"child_modules"`
}

func (m module) all() []resource {
	rs := m.Resources
	for _, c := range m.Children {
		rs = append(rs, c.all()...)
	}
	return rs
}

// values is what terraform has made, or plans to make.
type values struct {
	Root module `json:"root_module"`
}

// plan is what terraform would make of nothing. What it cannot know yet is absent.
type plan struct {
	Planned values                    `json:"planned_values"`
	Outputs map[string]map[string]any `json:"output_changes"`
}

func (r *root) plan(t *testing.T, args ...string) plan {
	t.Helper()
	r.run(t, append([]string{"plan", "-out=saved"}, args...)...)
	var p plan
	decode(t, []byte(r.run(t, "show", "-json", "saved")), &p)
	return p
}

// output returns an output of the root module.
func (r *root) output(t *testing.T, name string, v any) {
	t.Helper()
	decode(t, []byte(r.run(t, "output", "-json", name)), v)
}

func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
}

// find returns the resources of a type and name.
func find(rs []resource, kind, name string) (found []resource) {
	for _, r := range rs {
		if r.Type == kind && r.Name == name {
			found = append(found, r)
		}
	}
	return found
}

func (r resource) text(attribute string) string {
	s, _ := r.Values[attribute].(string) // absent is empty
	return s
}

// moto starts an emulator of its own, for terraform, and returns its URL.
func moto(t *testing.T) string {
	t.Helper()
	needPlugins(t) // before it takes seconds to start
	server, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("moto_server is not on this machine")
	}
	addr := freeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + addr
	processtest.Start(t, exec.Command(server, "-H", "127.0.0.1", "-p", port)).Until("it answers", time.Minute, func() bool {
		response, err := http.Get(url + "/moto-api/")
		if err != nil {
			return false
		}
		response.Body.Close()
		return true
	})
	return url
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestFormat(t *testing.T) {
	t.Parallel()
	needTerraform(t)
	cmd := exec.CommandContext(t.Context(), "terraform", "fmt", "-check", "-diff", "-recursive", ".")
	cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+os.DevNull, "CHECKPOINT_DISABLE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, out)
	}
}
