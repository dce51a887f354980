package infra_test

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/internal/processtest"
	"github.com/sluicehq/sluice/job"
)

// imageLimit is what the image may have in it, in bytes: it is what every start
// of a task has to fetch.
const imageLimit = 25 << 20

// buildImage puts into dir what the Dockerfile puts into the image: the command
// is read from it.
func buildImage(t *testing.T, dir, arch string) {
	t.Helper()
	if os.Getenv("SLUICE_TEST_IMAGE") == "" {
		t.Skip("SLUICE_TEST_IMAGE is not set: the image's flags compile everything anew, which takes minutes")
	}
	dockerfile, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^RUN CGO_ENABLED=0 GOOS=\$TARGETOS GOARCH=\$TARGETARCH (go build .*) -o /out/drainer (\S+)$`).FindStringSubmatch(string(dockerfile))
	if m == nil {
		t.Fatal("the Dockerfile builds in another way: so must this test")
	}
	binary := filepath.Join(dir, "drainer")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", m[1]+` -o "$0" `+m[2], binary)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "VERSION=1.0", "REVISION=abc")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", m[1], err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > imageLimit-1<<20 { // the certificates are a quarter of a MiB
		t.Errorf("the binary for %s has %d bytes", arch, info.Size())
	}
	t.Logf("%s: %.1f MiB", arch, float64(info.Size())/(1<<20))
}

// The other platform compiles, and is small enough.
func TestImageArm64(t *testing.T) {
	t.Parallel()
	buildImage(t, t.TempDir(), "arm64")
}

// What is in the image, in an empty root that nobody can write to, as the user
// that it names: it drains a run from an AWS behind TLS, whose certificate it can
// know from its own bundle only, answers the health check, and ends well.
func TestImage(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("chroot and a read-only mount need root")
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespace on this machine: %v %s", err, out)
	}
	root := t.TempDir()
	buildImage(t, root, runtime.GOARCH)
	for dir := root; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) { // the way there, for the user
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	server := localaws.New(localaws.Options{Bedrock: bedrocksim.Options{Models: map[string]bedrocksim.Model{"amazon.nova-lite-v1:0": {}}}})
	cloud := httptest.NewUnstartedServer(server)
	cloud.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	cloud.StartTLS()
	defer cloud.Close()
	server.CreateBucket("bucket")
	server.CreateQueue("jobs", nil)
	server.CreateQueue("dead", nil)

	bundle := filepath.Join(root, "etc", "ssl", "certs", "ca-certificates.crt")
	if err := os.MkdirAll(filepath.Dir(bundle), 0o755); err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cloud.Certificate().Raw})
	if err := os.WriteFile(bundle, certificate, 0o444); err != nil {
		t.Fatal(err)
	}

	env := []string{
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_ENDPOINT_URL=" + cloud.URL,
		"SLUICE_QUEUE_URLS=" + cloud.URL + "/000000000000/jobs", "SLUICE_DLQ_URL=" + cloud.URL + "/000000000000/dead",
		"SLUICE_RESULTS_S3=s3://bucket/results/", "SLUICE_ADMIN_ADDR=" + freeAddr(t), "SLUICE_GRACE=10s",
		// Over TLS the SDK signs bodies in chunks, which the embedded S3 stores as such.
		"AWS_REQUEST_CHECKSUM_CALCULATION=when_required",
		`SLUICE_MODELS={"nova": {"routes": [{"model_id": "amazon.nova-lite-v1:0", "region": "us-east-1", "rpm": 600}]}}`,
	}
	inside := func(args ...string) *exec.Cmd {
		// What docker's --read-only and USER do. exec: signals reach the drainer.
		script := `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec chroot --userspec=65532:65532 "$0" /drainer "$@"`
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, root}, args...)...)
		cmd.Env = append(env, "PATH="+os.Getenv("PATH"))
		return cmd
	}
	if out, err := inside("version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "drainer 1.0 abc go1") {
		t.Errorf("version: %v: %s", err, out)
	}
	drainer := processtest.Start(t, inside("run"))
	send(t, messages(cloud.URL, cloud.Client()), cloud.URL+"/000000000000/jobs", jobs("nova", 5))
	client := objects(cloud.URL, cloud.Client())
	for i := range 5 {
		r := awaitResult(t, client, "bucket", "results/"+job.Identity{ID: fmt.Sprintf("job-%d", i)}.Key())
		if r.Status != job.Succeeded {
			t.Errorf("job-%d: %s", i, r.Status)
		}
	}
	if out, err := inside("healthcheck").CombinedOutput(); err != nil {
		t.Errorf("healthcheck: %v: %s", err, out)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", drainer.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(status), "\nUid:\t65532\t65532\t") {
		t.Errorf("the drainer runs as another user:\n%s", status)
	}
	drainer.Stop(time.Minute)
	if out, err := inside("healthcheck").CombinedOutput(); err == nil {
		t.Errorf("healthcheck of nobody: %s", out)
	}
}
