/** Names of a running proxy's statistics, with what is chosen by configuration left out: `cluster.<name>.upstream_rq_total`. */
import type { RunningProxy } from '../../proxy/proxy_options.ts';

const PLACES: readonly (readonly [RegExp, string])[] = [
  [/^listener\.(?:admin|status|metrics)\./, 'listener.<address>.'],
  [/^listener\.[\d._]+_\d+\./, 'listener.<address>.'],
  [/^http\.[^.]+\./, 'http.<prefix>.'],
  [/^cluster\.[^.]+\./, 'cluster.<name>.'],
  [/\.worker_\d+\./, '.worker_<n>.'],
  [/_rq_[1-5]xx$/, '_rq_<class>'],
  [/_rq_\d{3}$/, '_rq_<code>'],
];

/** Sorted, each once. */
export function statisticNames(running: RunningProxy): string[] {
  const names = [...running.statistics.values()].map(({ name }) => {
    let general = name;
    for (const [pattern, place] of PLACES) {
      general = general.replace(pattern, place);
    }
    return general;
  });
  return [...new Set(names)].sort();
}
