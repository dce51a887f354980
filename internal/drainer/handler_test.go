package drainer_test

import (
	"encoding/json"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

// ask calls the admin handler.
func (p *process) ask(path string) (status int, body string) {
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

// What the preflight misses is named as it was configured.
func TestPreflightNamesTheVariable(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.cfg.QueueURLs = append(w.cfg.QueueURLs, strings.Replace(w.queues[0], "jobs-0", "nope", 1))
		w.cfg.Results = config.Location{Bucket: "nobucket", Prefix: "r/"}
		p := w.drain()
		<-p.done
		for _, want := range []string{"SLUICE_QUEUE_URLS[1]: describe nope: ", "SLUICE_RESULTS_S3 (s3://nobucket/r/): "} {
			if p.err == nil || !strings.Contains(p.err.Error(), want) {
				t.Errorf("the preflight does not say %q: %v", want, p.err)
			}
		}
	})
}

func TestAdminHandler(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		// While the bucket refuses, the preflight waits: alive, not ready.
		var away atomic.Bool
		away.Store(true)
		w.fault("S3.", &away, unavailable)
		p := w.drain()
		time.Sleep(time.Second)
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/status.json": 200, "/metrics": 200, "/nothing": 404} {
			if status, body := p.ask(path); status != want {
				t.Errorf("before the preflight %s answers %d, want %d: %s", path, status, want, body)
			}
		}
		time.Sleep(10 * time.Second) // the SDK tries more than once
		if _, body := p.ask("/readyz"); !strings.Contains(body, "preflight") || !strings.Contains(body, "503") {
			t.Errorf("readyz does not say why: %q", body)
		}

		away.Store(false)
		time.Sleep(30 * time.Second)
		if status, body := p.ask("/readyz"); status != 200 {
			t.Errorf("readyz answers %d: %s", status, body)
		}
		w.enqueue(0, converse("secret-id", "sonnet", 100, 64, "secret-prompt"))
		w.empty(p, time.Minute)
		var status struct {
			Ready  bool
			Models []struct {
				Model     string
				Succeeded int
				Latency   struct{ P50 float64 }
			}
		}
		_, body := p.ask("/status.json")
		if err := json.Unmarshal([]byte(body), &status); err != nil {
			t.Fatal(err)
		}
		if !status.Ready || len(status.Models) != 1 || status.Models[0].Succeeded != 1 || status.Models[0].Latency.P50 == 0 {
			t.Errorf("status = %+v", status)
		}
		_, metrics := p.ask("/metrics")
		if !strings.Contains(metrics, "sluice_") {
			t.Errorf("no metrics of ours:\n%s", metrics)
		}
		// Why a job waits: what the ledger believes, and what it has left.
		route := `{model="sonnet",route="us-east-1/` + sonnet + `"`
		for series, want := range map[string]float64{
			"sluice_share_percent" + route + "}":                                              100,
			"sluice_margin_seconds" + route + "}":                                             0.045,
			"sluice_shape_seconds" + strings.Replace(route, "{", `{limit="bucket",`, 1) + "}": 1,
			"sluice_shape_seconds" + strings.Replace(route, "{", `{limit="minute",`, 1) + "}": 60,
			"sluice_level" + route + `,unit="requests"}`:                                      5,
		} {
			_, after, found := strings.Cut(metrics, series+" ")
			text, _, _ := strings.Cut(after, "\n")
			if got, err := strconv.ParseFloat(text, 64); !found || err != nil || got != want {
				t.Errorf("%s is %q, want %v", series, text, want)
			}
		}
		for _, text := range []string{body, metrics} {
			if strings.Contains(text, "secret") {
				t.Errorf("a job shows:\n%s", text)
			}
		}
	})
}

// A closed route says why where a person looks: what to mend, and what to ask AWS
// about.
func TestAClosedRouteSaysWhy(t *testing.T) {
	inWorld(t, sim(300), sonnetRPM, 1, func(w *world) {
		w.aws.Bedrock().Set(sonnet, func(m *bedrocksim.Model) {
			m.Faults = []bedrocksim.Fault{{Kind: bedrocksim.Denied, Rate: 1, Until: 5 * time.Minute}}
		})
		w.enqueueMany(0, 5, "sonnet", "j")
		began := time.Now()
		p := w.drain()
		time.Sleep(3 * time.Minute)
		if _, body := p.ask("/readyz"); body != "no route is usable\nus-east-1/"+sonnet+": stopped (AccessDeniedException)\n" {
			w.Errorf("readyz says %q", body)
		}
		route := p.model("sonnet").Routes[0]
		if route.GateCode != "AccessDeniedException" || route.GateRequest == "" || route.GateSince.Sub(began) > time.Minute {
			w.Errorf("the status says code %q, request %q, since %v", route.GateCode, route.GateRequest, route.GateSince)
		}
		if line := "reason=unauthorized code=AccessDeniedException request_id=" + route.GateRequest; !strings.Contains(w.logged.String(), line) {
			w.Errorf("the log does not say %s", line)
		}
		w.empty(p, 20*time.Minute)
		if route := p.model("sonnet").Routes[0]; route.GateCode != "" || !route.GateSince.IsZero() {
			w.Errorf("the status of an open route says code %q, since %v", route.GateCode, route.GateSince)
		}
	})
}
