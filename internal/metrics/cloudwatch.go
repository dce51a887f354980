package metrics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// Limits of PutMetricData.
const (
	maxData   = 1000
	maxValues = 150
	// maxRequest is below the 1 MB of a request, in bytes before compression:
	// what compression saves is not known beforehand.
	maxRequest = 1_000_000
	// A datum's names take datumBytes at most, as configured names go, and each of
	// its values two floats.
	datumBytes, valueBytes = 512, 18
)

// Options is what a Publisher is made of.
type Options struct {
	Namespace string
	Service   string        // value of the dimension Service
	Period    time.Duration // between publications, at least a second
	// Detail adds a series for each route and label, and the metrics that Table
	// marks as detail.
	Detail bool
	Source Source
	Log    *slog.Logger
}

// Publisher sends what a period added to CloudWatch. What CloudWatch does not
// take is dropped: kept back, an hour's counts would arrive as one minute's and
// set off alarms, and those of a put that timed out may have been counted.
type Publisher struct {
	client *cloudwatch.Client
	o      Options

	turn    chan struct{} // holds one token; whoever has it owns the fields below
	last    map[key]total // as of the last publication
	dropped int           // periods, since CloudWatch last took one
}

// NewPublisher returns a publisher whose first period begins with the process.
func NewPublisher(client *cloudwatch.Client, o Options) *Publisher {
	p := &Publisher{client: client, o: o, turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p
}

// Run publishes at the end of each period, on the clock's own multiples of it,
// until ctx is done. A put is not cut off by that: Run returns when it has
// ended, half a period later at most.
func (p *Publisher) Run(ctx context.Context) {
	for {
		start := time.Now().Truncate(p.o.Period)
		timer := time.NewTimer(time.Until(start.Add(p.o.Period)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		// Half a period, so that a CloudWatch that hangs costs its own period only.
		put, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.o.Period/2)
		p.publish(put, start)
		cancel()
	}
}

// Flush publishes what the period under way has added so far.
func (p *Publisher) Flush(ctx context.Context) {
	p.publish(ctx, time.Now().Truncate(p.o.Period))
}

// publish sends what was added since the last call, as of the period that began
// at start.
func (p *Publisher) publish(ctx context.Context, start time.Time) {
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-ctx.Done():
		p.o.Log.Warn("metrics dropped", "error", context.Cause(ctx))
		return
	}
	now := totals(p.o.Source(), p.o.Detail)
	data := p.data(now, start)
	p.last = now
	err := p.put(ctx, data)
	switch {
	case err != nil && p.dropped == 0:
		p.o.Log.Warn("metrics dropped until CloudWatch takes them again", "error", err)
		fallthrough
	case err != nil:
		p.dropped++
	case p.dropped > 0:
		p.o.Log.Info("metrics published again", "periods_dropped", p.dropped)
		p.dropped = 0
	}
}

// put sends data in as few requests as it may. One that fails does not stop the
// others.
func (p *Publisher) put(ctx context.Context, data []types.MetricDatum) error {
	var errs []error
	for len(data) > 0 {
		n, size := 0, 0
		for n < min(len(data), maxData) && size <= maxRequest {
			size += datumBytes + valueBytes*len(data[n].Values)
			n++
		}
		_, err := p.client.PutMetricData(ctx, &cloudwatch.PutMetricDataInput{
			Namespace: &p.o.Namespace, MetricData: data[:n],
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("put %d metrics: %w", n, err))
		}
		data = data[n:]
	}
	return errors.Join(errs...)
}

// total is the state of one series of CloudWatch: the sum of samples.
type total struct {
	*Definition
	value  float64
	counts map[float64]uint64
}

// totals adds the samples up to CloudWatch's series: of a service or model, and
// with detail of each route and label too.
func totals(samples []Sample, detail bool) map[key]total {
	all := make(map[key]total)
	for _, s := range samples {
		if s.check() != nil {
			continue // a programming error, which Check tells in tests
		}
		d := find(s.Name)
		sum, own := key{name: s.Name, model: s.Model}, s.key()
		if !d.Detail {
			all[sum] = all[sum].plus(d, s)
		}
		if detail && (d.Detail || own != sum) {
			all[own] = all[own].plus(d, s)
		}
	}
	return all
}

func (t total) plus(d *Definition, s Sample) total {
	t.Definition = d
	t.value += s.Value
	if t.counts == nil && len(s.Buckets) > 0 {
		t.counts = make(map[float64]uint64)
	}
	for _, b := range s.Buckets {
		t.counts[b.Value] += b.Count
	}
	return t
}

// data makes CloudWatch's data of what was added between the last totals and
// now, in a stable order.
func (p *Publisher) data(now map[key]total, start time.Time) []types.MetricDatum {
	var data []types.MetricDatum
	rates := make(map[key]struct{ answered, refused float64 })
	for _, k := range slices.SortedFunc(maps.Keys(now), compare) {
		t, last := now[k], p.last[k]
		datum := p.datum(k, t.Definition, start)
		switch t.Kind {
		case Counter:
			added := max(0, t.value-last.value)
			datum.Value = &added
			data = append(data, datum)
			rate := rates[rateKey(k)]
			switch k.name {
			case invocations:
				rate.answered += added
			case throttles:
				rate.refused += added
			}
			rates[rateKey(k)] = rate
		case Gauge:
			if !math.IsNaN(t.value) && !math.IsInf(t.value, 0) { // such as time to drain at no pace
				datum.Value = &t.value
				data = append(data, datum)
			}
		case Distribution:
			added := make(map[float64]uint64)
			for value, count := range t.counts {
				if before := last.counts[value]; count > before {
					added[value] = count - before
				}
			}
			for part := range slices.Chunk(buckets(added), maxValues) {
				datum.Values, datum.Counts = nil, nil
				for _, b := range part {
					datum.Values = append(datum.Values, b.Value)
					datum.Counts = append(datum.Counts, float64(b.Count))
				}
				data = append(data, datum)
			}
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(rates), compare) {
		if r := rates[k]; r.answered+r.refused > 0 {
			datum := p.datum(k, find(k.name), start)
			datum.Value = aws.Float64(100 * r.refused / (r.answered + r.refused))
			data = append(data, datum)
		}
	}
	return data
}

// rateKey is the series of the throttle rate that a series of counts goes into.
func rateKey(k key) key { return key{name: throttleRate, model: k.model, route: k.route} }

func (p *Publisher) datum(k key, d *Definition, start time.Time) types.MetricDatum {
	dimensions := []types.Dimension{{Name: aws.String("Service"), Value: &p.o.Service}}
	for _, of := range []struct{ name, value string }{
		{"Model", k.model}, {"Route", k.route}, {title(d.Label), k.label},
	} {
		if of.value != "" { // CloudWatch refuses an empty one
			dimensions = append(dimensions, types.Dimension{Name: &of.name, Value: &of.value})
		}
	}
	datum := types.MetricDatum{
		MetricName: &d.Name, Unit: types.StandardUnit(d.Unit), Timestamp: &start, Dimensions: dimensions,
	}
	if p.o.Period < time.Minute { // else CloudWatch keeps minutes, and an alarm on less finds nothing
		datum.StorageResolution = aws.Int32(1)
	}
	return datum
}

// title makes a dimension's name of a label's.
func title(label string) string {
	if label == "" {
		return ""
	}
	return string(label[0]-'a'+'A') + label[1:]
}

func compare(a, b key) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.model, b.model),
		cmp.Compare(a.route, b.route), cmp.Compare(a.label, b.label))
}
