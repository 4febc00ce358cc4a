/** Counting, in a thread's slab. */
import { SlabStatistics } from '../../proxy/telemetry/slab.ts';
import { bench } from './harness.ts';

const statistics = new SlabStatistics(() => {});
const counter = statistics.counter('bench.counter');
const gauge = statistics.gauge('bench.gauge');
const histogram = statistics.histogram('bench.histogram');
const labels = { reporter: 'source', source_workload: 'web', destination_workload: 'catalog', response_code: '200' };
bench('counter.inc', () => counter.inc());
bench('gauge.inc and dec', () => {
  gauge.inc();
  gauge.dec();
});
bench('histogram.record', (index) => histogram.record(index % 2000));
bench('look-up of a labelled counter, then inc', () => statistics.counter('bench.labelled', labels).inc());
