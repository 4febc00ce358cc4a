/** The control thread's part of what single requests want (on_demand.ts): whom to ask, and word to those who wait. */
import type { ConfigSource, Demand } from '../config/resources.ts';
import type { ToThread } from './thread_messages.ts';

/** Asks the first source that can be asked; all threads are told when it will not come. */
export function askSources(
  sources: readonly ConfigSource[],
  demand: Demand,
  broadcast: (message: ToThread) => void,
): void {
  const absent = (): void => broadcast({ kind: 'demand-absent', demand });
  if (!sources.some((source) => source.demand?.(demand, absent) === true)) absent();
}
