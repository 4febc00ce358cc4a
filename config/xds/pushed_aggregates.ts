/** Aggregate clusters of a control plane: those that would contain themselves, by way of others, are refused. */
import { circleOf, membersOf } from '../build/aggregate_circles.ts';
import type { Resource } from '../resources.ts';
import type { BadResource } from './pushed_resources.ts';

export class PushedAggregates {
  readonly #members = new Map<string, readonly string[]>();

  conflicting(changed: readonly Resource[], removed: readonly string[], origin: string): BadResource[] {
    const bad: BadResource[] = [];
    const graph = new Map(this.#members);
    for (const name of removed) graph.delete(name);
    for (const { name } of changed) graph.delete(name);
    for (const { name, version, json } of changed) {
      const members = membersOf(json);
      if (members === undefined) continue;
      graph.set(name, members);
      const circle = circleOf(name, graph);
      if (circle === undefined) continue;
      // Of a circle that comes in one push the last is left out; what it was before counts again.
      const before = this.#members.get(name);
      if (before === undefined) graph.delete(name);
      else graph.set(name, before);
      const reason = `Cannot use cluster "${name}" (${origin}): it would contain itself: ${[name, ...circle].join(' → ')}`;
      bad.push({ name, version, json, reason });
    }
    return bad;
  }

  taken(changed: readonly Resource[], removed: readonly string[]): void {
    for (const name of removed) this.#members.delete(name);
    for (const { name, json } of changed) {
      const members = membersOf(json);
      if (members === undefined) this.#members.delete(name);
      else this.#members.set(name, members);
    }
  }
}
