/** Which filters of a connection manager run for a stream: its route may switch them on and off (FilterConfig). */
import type { Route } from '../router/route.ts';
import type { FilterSlot } from './filter_pass.ts';

/** The same order. */
export function activeSlots<S extends FilterSlot>(slots: readonly S[], route: Route | undefined): readonly S[] {
  return slots.filter((slot) => !(route?.filterConfig(slot.name)?.disabled ?? slot.disabled));
}

/** Whether a route chooses just these. */
export function choosesSame(
  chosen: readonly FilterSlot[],
  all: readonly FilterSlot[],
  route: Route | undefined,
): boolean {
  const now = activeSlots(all, route);
  return now.length === chosen.length && now.every((slot, index) => slot === chosen[index]);
}
