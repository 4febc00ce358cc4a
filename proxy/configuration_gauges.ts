/** How many resources are served and on their way, under Envoy's names. */
import type { ConfigurationState } from './configuration_state.ts';
import type { Statistics } from './telemetry/statistics.ts';

export function countResources(configuration: ConfigurationState, own: Statistics): void {
  own.gauge('cluster_manager.active_clusters').set(configuration.activeCount('cluster'));
  own.gauge('listener_manager.total_listeners_active').set(configuration.activeCount('listener'));
  own.gauge('cluster_manager.warming_clusters').set(configuration.warmingCountOf('cluster'));
  own.gauge('listener_manager.total_listeners_warming').set(configuration.warmingCountOf('listener'));
}
