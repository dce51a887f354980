package config

import (
	"fmt"
	"iter"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of the settings. Where AWS sets one, the comment names it; the others
// keep a typing error from looking like a fault of the service.
const (
	// minVisibility leaves an extension at half-life 5 s to get through. Shorter,
	// and one slow answer of SQS delivers a job twice.
	minVisibility = 10 * time.Second
	// maxVisibility keeps an extension at half-life within the 12 hours that SQS
	// counts from the receipt: longer ones are refused, not clamped.
	maxVisibility = 6 * time.Hour
	// maxHold bounds how old a held job can grow: a held job is memory, and its
	// receipt's 12 hours run.
	maxHold = time.Hour
	// minGrace is twice the 5 s that puts and releases get at the end of it.
	minGrace = 10 * time.Second
	// maxMetricsPeriod is the coarsest that an alarm over minutes can use.
	maxMetricsPeriod = time.Hour
	// renewedFrom is the receive count from which a release is a renewal. A
	// limit at or below it buries jobs that were merely waiting for quota.
	renewedFrom = 20
	// minInFlightBytes holds one payload of 25 MiB and its answer. Smaller, and
	// a large job waits for ever.
	minInFlightBytes = 32 << 20
)

var (
	// nameForm keeps the Service dimension printable and quotable.
	nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	// namespaceForm is CloudWatch's own; "AWS/" is reserved.
	namespaceForm = regexp.MustCompile(`^[0-9A-Za-z._/#: -]{1,255}$`)
)

// check finds what is wrong as far as it can be told without asking AWS.
func (c Config) check() problems {
	var ps problems
	must := func(ok bool, variable, format string, args ...any) {
		if !ok {
			ps.addf(variable, format, args...)
		}
	}

	must(nameForm.MatchString(c.Name), "SLUICE_NAME", "must be 1 to 128 letters, digits, dots, dashes or underscores, not %q", c.Name)
	ps = append(ps, c.checkQueues()...)
	must(len(c.Models) > 0 || c.ModelsFile != "", "SLUICE_MODELS", "must be set, or SLUICE_MODELS_FILE")
	must(c.Results.Bucket != "", "SLUICE_RESULTS_S3", "must be set: a result that is not in S3 is not durable")
	if c.Payloads != nil {
		must(!c.Payloads.overlaps(c.Results), "SLUICE_PAYLOADS_S3",
			"must be disjoint from SLUICE_RESULTS_S3 (%s): a job could name a result as its payload", c.Results)
	}

	must(c.QuotaFraction > 0 && c.QuotaFraction <= 1, "SLUICE_QUOTA_FRACTION", "must be above 0 and at most 1")
	must(c.MaxInFlight >= 1, "SLUICE_MAX_IN_FLIGHT", "must be at least 1")
	must(c.MaxInFlightBytes >= minInFlightBytes, "SLUICE_MAX_IN_FLIGHT_BYTES", "must be at least %d", minInFlightBytes)
	must(c.Visibility >= minVisibility && c.Visibility <= maxVisibility && wholeSeconds(c.Visibility),
		"SLUICE_VISIBILITY", "must be whole seconds, %v to %v", minVisibility, maxVisibility)
	must(c.Hold >= 0 && c.Hold <= maxHold, "SLUICE_HOLD", "must be 0s to %v", maxHold)
	must(c.MaxReceives > renewedFrom, "SLUICE_MAX_RECEIVES", "must be above %d, from where on releases are renewed", renewedFrom)
	must(c.Grace >= minGrace, "SLUICE_GRACE", "must be at least %v", minGrace)

	ns := c.MetricsNamespace
	must(ns == "" || namespaceForm.MatchString(ns) && !strings.HasPrefix(ns, "AWS/") && !strings.HasPrefix(ns, ":"),
		"SLUICE_METRICS_NAMESPACE", "is no CloudWatch namespace: %q", ns)
	must(c.MetricsPeriod >= time.Second && c.MetricsPeriod <= maxMetricsPeriod && wholeSeconds(c.MetricsPeriod),
		"SLUICE_METRICS_PERIOD", "must be whole seconds, 1s to %v", maxMetricsPeriod)
	must(c.MetricsDetail == "model" || c.MetricsDetail == "route", "SLUICE_METRICS_DETAIL", "must be model or route, not %q", c.MetricsDetail)
	must(c.PacingTrace == "" || canHold(c.PacingTrace), "SLUICE_PACING_TRACE", "must be a file in a folder that is there, not %q", c.PacingTrace)
	must(listenAddress(c.AdminAddr), "SLUICE_ADMIN_ADDR", "must be host:port, not %q", c.AdminAddr)
	must(slices.Contains([]string{"auto", "json", "text"}, c.LogFormat), "SLUICE_LOG_FORMAT", "must be auto, json or text, not %q", c.LogFormat)
	return ps
}

// canHold reports whether the path can be a file.
func canHold(path string) bool {
	folder, err := os.Stat(filepath.Dir(path))
	if err != nil || !folder.IsDir() {
		return false
	}
	there, err := os.Stat(path)
	return err != nil || there.Mode().IsRegular()
}

// checkQueues looks at each queue's URL, and that no queue has two parts: a
// dead-letter queue that is also a job queue buries the same job for ever.
func (c Config) checkQueues() problems {
	var ps problems
	if len(c.QueueURLs) == 0 {
		ps.addf("SLUICE_QUEUE_URLS", "must be set")
	}
	part := make(map[string]string)
	for where, queueURL := range c.queues() {
		if err := CheckQueueURL(queueURL); err != nil {
			ps.add(where, err)
		} else if other, taken := part[queueURL]; taken {
			ps.addf(where, "is the queue of %s too", other)
		} else {
			part[queueURL] = where
		}
	}
	return ps
}

// queues are the URLs of the queues, each with where it is configured.
func (c Config) queues() iter.Seq2[string, string] {
	return func(yield func(where, queueURL string) bool) {
		for i, queueURL := range c.QueueURLs {
			if !yield(fmt.Sprintf("SLUICE_QUEUE_URLS[%d]", i), queueURL) {
				return
			}
		}
		if c.DLQURL != "" && !yield("SLUICE_DLQ_URL", c.DLQURL) {
			return
		}
		if c.ResultsQueueURL != "" {
			yield("SLUICE_RESULTS_QUEUE_URL", c.ResultsQueueURL)
		}
	}
}

// sqsHost is the host of an SQS endpoint of AWS, an interface endpoint's
// included, with its Region.
var sqsHost = regexp.MustCompile(`^(?:[a-z0-9-]+\.)*sqs(?:-fips)?\.([a-z]{2,}(?:-[a-z]+)+-\d+)\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)$`)

// CheckRegion reports what contradicts the Region that the AWS SDK found: it is
// the SDK's own, and asks that Region for every queue, whatever its URL says.
func (c Config) CheckRegion(region string) error {
	var ps problems
	if region == "" {
		ps.addf("AWS_REGION", "must be set: the Region of the queues and the bucket")
		return ps.err()
	}
	for where, queueURL := range c.queues() {
		u, err := url.Parse(queueURL)
		if err != nil {
			continue // reported already
		}
		if m := sqsHost.FindStringSubmatch(u.Hostname()); m != nil && m[1] != region {
			ps.addf(where, "is in %s, and AWS_REGION is %s", m[1], region)
		}
	}
	return ps.err()
}

// CheckQueueURL takes any host, because emulators have their own. It does not
// quote what it refuses: that may hold a password.
func CheckQueueURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Host == "", strings.Trim(u.Path, "/") == "":
		return fmt.Errorf("must be a queue URL such as https://sqs.us-east-1.amazonaws.com/123456789012/jobs")
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return fmt.Errorf("must be a plain queue URL, without credentials, query or fragment")
	case strings.HasSuffix(u.Path, ".fifo"):
		return fmt.Errorf("must be a standard queue: a FIFO queue keeps the order of a group, pacing lets whoever fits go first, and the two fight")
	}
	return nil
}

func listenAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.Atoi(port)
	return err == nil && n >= 0 && n <= 65535
}

func wholeSeconds(d time.Duration) bool { return d%time.Second == 0 }
