/** How many resources are served and on their way, under Envoy's names. */
import type { ConfigurationState } from './configuration_state.ts';
import type { Statistics } from './telemetry/statistics.ts';

export function countResources(configuration: ConfigurationState, own: Statistics): void {
  own.gauge('cluster_manager.active_clusters').set(configuration.activeCount('cluster'));
  own.gauge('listener_manager.total_listeners_active').set(configuration.activeCount('listener'));
  let warmingClusters = 0;
  let warmingListeners = 0;
  for (const { type } of configuration.warming()) {
    if (type === 'cluster') warmingClusters++;
    else if (type === 'listener') warmingListeners++;
  }
  own.gauge('cluster_manager.warming_clusters').set(warmingClusters);
  own.gauge('listener_manager.total_listeners_warming').set(warmingListeners);
}
