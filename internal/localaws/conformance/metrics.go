package conformance

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

// Metrics runs the suite of CloudWatch.
func Metrics(t *testing.T, target Target) {
	var names []string
	for _, c := range metricsCases {
		names = append(names, c.name)
		target.run(t, c.name, false, func(ctx context.Context, t *caseT, cfg aws.Config) {
			c.run(&metrics{
				caseT: t, ctx: ctx, client: cloudwatch.NewFromConfig(cfg), namespace: unique("conformance"),
				minute: time.Now().Truncate(time.Minute).Add(-10 * time.Minute),
			})
		})
	}
	target.covers(t, names)
}

var metricsCases = []struct {
	name string
	run  func(m *metrics)
}{
	{"values and counts", valuesAndCounts},
	{"percentiles of values and counts", percentiles},
	{"statistic sets", statisticSets},
	{"values of one minute add up", sameMinute},
	{"minutes stay apart", minutesApart},
	{"values of a dimension stay apart", dimensionsApart},
	{"fewer dimensions are another metric", fewerDimensions},
	{"a request that is compressed", compressed},
	{"at the limits", atTheLimits},
	{"more than 1,000 data", tooManyData},
	{"more than 150 values", tooManyValues},
	{"more than 30 dimensions", tooManyDimensions},
	{"counts for fewer values", fewerCounts},
	{"a value that is no number", notANumber},
	{"a time that is too old or to come", metricTimes},
	{"a list of metrics", listOfMetrics},
}

// metrics is one case: a namespace of its own, and what a case does with it.
type metrics struct {
	*caseT
	ctx       context.Context
	client    *cloudwatch.Client
	namespace string
	minute    time.Time // for a case's data: whole, and a while ago
}

func (m *metrics) put(data ...types.MetricDatum) error {
	_, err := m.client.PutMetricData(m.ctx, &cloudwatch.PutMetricDataInput{Namespace: &m.namespace, MetricData: data})
	return err
}

func (m *metrics) mustPut(data ...types.MetricDatum) {
	m.Helper()
	check(m, "put metric data", m.put(data...))
}

func datum(name string, at time.Time, value float64, dimensions ...types.Dimension) types.MetricDatum {
	return types.MetricDatum{MetricName: &name, Timestamp: &at, Value: &value, Unit: types.StandardUnitCount, Dimensions: dimensions}
}

func dimension(name, value string) types.Dimension {
	return types.Dimension{Name: &name, Value: &value}
}

// want checks statistics over the case's minute. What was put may take a while
// to be there.
func (m *metrics) want(name string, want map[string]float64, dimensions ...types.Dimension) {
	m.Helper()
	var got map[string]float64
	for range 30 {
		got = m.minuteOf(name, slices.Sorted(maps.Keys(want)), dimensions...)
		if cmp.Equal(want, got) {
			return
		}
		time.Sleep(time.Second)
	}
	m.Errorf("%s (-want +got):\n%s", name, cmp.Diff(want, got))
}

func (m *metrics) minuteOf(name string, stats []string, dimensions ...types.Dimension) map[string]float64 {
	m.Helper()
	var queries []types.MetricDataQuery
	for i, stat := range stats {
		queries = append(queries, m.query("q"+strconv.Itoa(i), name, stat, dimensions...))
	}
	out, err := m.client.GetMetricData(m.ctx, &cloudwatch.GetMetricDataInput{
		StartTime: &m.minute, EndTime: aws.Time(m.minute.Add(time.Minute)), MetricDataQueries: queries,
	})
	check(m, "get metric data", err)
	got := make(map[string]float64)
	for _, r := range out.MetricDataResults {
		i, err := strconv.Atoi(strings.TrimPrefix(aws.ToString(r.Id), "q"))
		check(m, "read the result's id", err)
		if len(r.Values) > 1 || len(r.Values) != len(r.Timestamps) {
			m.Errorf("%s of %s: %d values at %d times, want at most 1", stats[i], name, len(r.Values), len(r.Timestamps))
		}
		if len(r.Values) == 1 {
			got[stats[i]] = r.Values[0]
			if !r.Timestamps[0].Equal(m.minute) {
				m.Errorf("%s of %s: at %v, want %v", stats[i], name, r.Timestamps[0], m.minute)
			}
		}
	}
	return got
}

func (m *metrics) query(id, name, stat string, dimensions ...types.Dimension) types.MetricDataQuery {
	return types.MetricDataQuery{Id: &id, MetricStat: &types.MetricStat{
		Metric: &types.Metric{Namespace: &m.namespace, MetricName: &name, Dimensions: dimensions},
		Period: aws.Int32(60), Stat: &stat,
	}}
}

func valuesAndCounts(m *metrics) {
	m.mustPut(types.MetricDatum{
		MetricName: aws.String("Latency"), Timestamp: &m.minute, Unit: types.StandardUnitSeconds,
		Values: []float64{0.5, 2, 8}, Counts: []float64{6, 3, 1},
	})
	m.want("Latency", map[string]float64{"SampleCount": 10, "Sum": 17, "Average": 1.7, "Minimum": 0.5, "Maximum": 8})
}

func percentiles(m *metrics) {
	m.mustPut(types.MetricDatum{
		MetricName: aws.String("Latency"), Timestamp: &m.minute, Unit: types.StandardUnitSeconds,
		Values: []float64{1, 2, 3}, Counts: []float64{900, 80, 20},
	})
	// AWS does not document the interpolation: the ranks here are far from a
	// change of value, and the tolerance is AWS's own for large sets.
	var got map[string]float64
	for range 30 {
		got = m.minuteOf("Latency", []string{"p50", "p95", "p99.5"})
		if math.Abs(got["p50"]-1) < 0.05 && math.Abs(got["p95"]-2) < 0.05 && math.Abs(got["p99.5"]-3) < 0.05 {
			return
		}
		time.Sleep(time.Second)
	}
	m.Errorf("got %v, want p50 near 1, p95 near 2, p99.5 near 3", got)
}

func statisticSets(m *metrics) {
	m.mustPut(types.MetricDatum{MetricName: aws.String("Set"), Timestamp: &m.minute, StatisticValues: &types.StatisticSet{
		SampleCount: aws.Float64(4), Sum: aws.Float64(10), Minimum: aws.Float64(1), Maximum: aws.Float64(4),
	}})
	m.want("Set", map[string]float64{"SampleCount": 4, "Sum": 10, "Average": 2.5, "Minimum": 1, "Maximum": 4})
}

func sameMinute(m *metrics) {
	m.mustPut(datum("Throttles", m.minute, 3), datum("Throttles", m.minute.Add(59*time.Second), 4))
	m.mustPut(datum("Throttles", m.minute.Add(30*time.Second), 5))
	m.want("Throttles", map[string]float64{"SampleCount": 3, "Sum": 12, "Minimum": 3, "Maximum": 5})
}

func minutesApart(m *metrics) {
	for i := range 3 {
		m.mustPut(datum("Throttles", m.minute.Add(time.Duration(i)*time.Minute), float64(i+1)))
	}
	for _, order := range []struct {
		scan types.ScanBy
		want []float64
	}{
		{types.ScanByTimestampAscending, []float64{1, 2}},
		{types.ScanByTimestampDescending, []float64{2, 1}},
		{"", []float64{2, 1}},
	} {
		var got []float64
		for range 30 {
			out, err := m.client.GetMetricData(m.ctx, &cloudwatch.GetMetricDataInput{
				StartTime: &m.minute, EndTime: aws.Time(m.minute.Add(2 * time.Minute)), ScanBy: order.scan,
				MetricDataQueries: []types.MetricDataQuery{m.query("q", "Throttles", "Sum")},
			})
			check(m, "get metric data", err)
			if len(out.MetricDataResults) != 1 {
				m.Fatalf("%d results, want 1", len(out.MetricDataResults))
			}
			if got = out.MetricDataResults[0].Values; cmp.Equal(order.want, got) {
				break
			}
			time.Sleep(time.Second)
		}
		if diff := cmp.Diff(order.want, got); diff != "" {
			m.Errorf("scan %q (-want +got):\n%s", order.scan, diff)
		}
	}
}

func dimensionsApart(m *metrics) {
	service, sonnet, haiku := dimension("Service", "sluice"), dimension("Model", "sonnet"), dimension("Model", "haiku")
	m.mustPut(datum("Succeeded", m.minute, 1, service, sonnet), datum("Succeeded", m.minute, 2, service, haiku))
	m.want("Succeeded", map[string]float64{"Sum": 1}, sonnet, service)
	m.want("Succeeded", map[string]float64{"Sum": 2}, service, haiku)
}

func fewerDimensions(m *metrics) {
	service, sonnet := dimension("Service", "sluice"), dimension("Model", "sonnet")
	m.mustPut(datum("Succeeded", m.minute, 1, service, sonnet), datum("Succeeded", m.minute, 2, service))
	m.want("Succeeded", map[string]float64{"Sum": 2}, service)
	if got := m.minuteOf("Succeeded", []string{"Sum"}); len(got) != 0 {
		m.Errorf("without dimensions: got %v, want no data", got)
	}
}

// The SDK compresses bodies of 10 KiB and more.
func compressed(m *metrics) {
	var data []types.MetricDatum
	for i := range 1000 {
		data = append(data, datum("Many", m.minute, float64(i)))
	}
	m.mustPut(data...)
	m.want("Many", map[string]float64{"SampleCount": 1000, "Sum": 499500})
}

// limited is a datum with so many values and dimensions.
func (m *metrics) limited(values, counts, dimensions int) types.MetricDatum {
	d := types.MetricDatum{MetricName: aws.String("Limits"), Timestamp: &m.minute}
	for i := range values {
		d.Values = append(d.Values, float64(i))
	}
	for range counts {
		d.Counts = append(d.Counts, 1)
	}
	for i := range dimensions {
		d.Dimensions = append(d.Dimensions, dimension("d"+strconv.Itoa(i), "x"))
	}
	return d
}

func (m *metrics) refused(data ...types.MetricDatum) {
	m.Helper()
	err := m.put(data...)
	if _, ok := errors.AsType[smithy.APIError](err); !ok {
		m.Errorf("got %v, want a refusal", err)
	}
}

func atTheLimits(m *metrics) {
	m.mustPut(m.limited(150, 150, 0), m.limited(1, 0, 30))
	m.want("Limits", map[string]float64{"SampleCount": 150})
}

func tooManyData(m *metrics) {
	m.refused(slices.Repeat([]types.MetricDatum{m.limited(1, 0, 0)}, 1001)...)
}

func tooManyValues(m *metrics)     { m.refused(m.limited(151, 0, 0)) }
func tooManyDimensions(m *metrics) { m.refused(m.limited(1, 0, 31)) }
func fewerCounts(m *metrics)       { m.refused(m.limited(3, 2, 0)) }
func notANumber(m *metrics)        { m.refused(datum("Limits", m.minute, math.NaN())) }

func metricTimes(m *metrics) {
	m.refused(datum("Times", time.Now().Add(-15*24*time.Hour), 1))
	m.refused(datum("Times", time.Now().Add(3*time.Hour), 1))
}

func listOfMetrics(m *metrics) {
	service, sonnet := dimension("Service", "sluice"), dimension("Model", "sonnet")
	m.mustPut(datum("A", m.minute, 1, service, sonnet), datum("B", m.minute, 1, service), datum("B", m.minute, 2, service))
	list := func(name string, filters ...types.DimensionFilter) (got []string) {
		in := &cloudwatch.ListMetricsInput{Namespace: &m.namespace, Dimensions: filters}
		if name != "" {
			in.MetricName = &name
		}
		pages := cloudwatch.NewListMetricsPaginator(m.client, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(m.ctx)
			check(m, "list metrics", err)
			for _, metric := range page.Metrics {
				got = append(got, aws.ToString(metric.MetricName)+strconv.Itoa(len(metric.Dimensions)))
			}
		}
		slices.Sort(got)
		return got
	}
	for _, c := range []struct {
		name    string
		filters []types.DimensionFilter
		want    []string
	}{
		{"", nil, []string{"A2", "B1"}},
		{"B", nil, []string{"B1"}},
		{"", []types.DimensionFilter{{Name: aws.String("Model"), Value: aws.String("sonnet")}}, []string{"A2"}},
		{"", []types.DimensionFilter{{Name: aws.String("Service")}}, []string{"A2", "B1"}},
		{"", []types.DimensionFilter{{Name: aws.String("Model"), Value: aws.String("haiku")}}, nil},
	} {
		var got []string
		for range 30 {
			if got = list(c.name, c.filters...); cmp.Equal(c.want, got) {
				break
			}
			time.Sleep(time.Second)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			m.Errorf("name %q, %d filters (-want +got):\n%s", c.name, len(c.filters), diff)
		}
	}
}
