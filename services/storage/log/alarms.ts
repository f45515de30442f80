import type { Alarm, Incomplete } from '../ports.ts';

/** A person needs the first of them; what the keeper may do is kept apart, and is never forgotten for their number. */
const LISTED_MAX = 1000;

/** What a tenant's log hides when one of these was met. */
const HIDES_ENTRIES: ReadonlySet<Alarm['kind']> = new Set(['damaged-commit', 'unknown-entry', 'newer-format']);

/** Each is raised once, however often it is met. */
export class Alarms {
  readonly #raised = new Map<string, Alarm>();
  readonly #onAlarm: (alarm: Alarm) => void;
  readonly #hidden = new Set<string>();
  /** Tenant → lanes. */
  readonly #unreadable = new Map<string, Set<string>>();

  constructor(onAlarm: (alarm: Alarm) => void) {
    this.#onAlarm = onAlarm;
  }

  raise(alarm: Omit<Alarm, 'atMs'>): void {
    if (HIDES_ENTRIES.has(alarm.kind)) this.#hidden.add(alarm.tenant);
    if (alarm.kind === 'unreadable-lane') {
      const lanes = this.#unreadable.get(alarm.tenant) ?? new Set();
      this.#unreadable.set(alarm.tenant, lanes.add(alarm.lane));
    }
    const key = `${alarm.kind} ${alarm.tenant} ${alarm.lane} ${alarm.detail}`;
    if (this.#raised.has(key) || this.#raised.size >= LISTED_MAX) return;
    const raised = { ...alarm, atMs: Date.now() };
    this.#raised.set(key, raised);
    this.#onAlarm(raised);
  }

  /** The lane was read after all: its alarm stays for whoever wants to know, and stops nothing any more. */
  readable(tenant: string, lane: string): void {
    this.#unreadable.get(tenant)?.delete(lane);
  }

  list(): readonly Alarm[] {
    return [...this.#raised.values()];
  }

  incomplete(tenant: string): Incomplete {
    const [unreadableLane] = [...(this.#unreadable.get(tenant) ?? []), ...(this.#unreadable.get('') ?? [])];
    return { unreadableLane, hiddenEntries: this.#hidden.has(tenant) || this.#hidden.has('') };
  }
}
