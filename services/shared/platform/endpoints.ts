import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';

/** Where a service is said to be: a name or address with the ports of both planes. Each address behind the name is one process. */
export interface Place {
  host: string;
  grpcPort: number;
  bulkPort: number;
}
export interface Endpoint {
  name: string;
  places: Place[];
}

/** `storage.keeper=keeper:9090:9091|other:9090:9091`; an IPv6 address in brackets. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const [, name, rest] = /^([a-z]+(?:\.[a-z]+)?)=(.+)$/i.exec(text) ?? [];
  if (name === undefined || rest === undefined) return undefined;
  const places: Place[] = [];
  for (const one of rest.split('|')) {
    const match = /^(\[[0-9a-f:.]+\]|[\w.-]+):(\d{1,5}):(\d{1,5})$/i.exec(one.trim());
    if (!match) return undefined;
    const [, host, grpcPort, bulkPort] = match;
    if (Number(grpcPort) > 65_535 || Number(bulkPort) > 65_535) return undefined;
    places.push({
      host: host!.replace(/^\[(.*)\]$/, '$1'),
      grpcPort: Number(grpcPort),
      bulkPort: Number(bulkPort),
    });
  }
  return { name, places };
}

/** One process: its place with the name resolved. */
export type Address = Place;
export const addressKey = ({ host, grpcPort, bulkPort }: Address): string => `${host} ${grpcPort} ${bulkPort}`;

/** Every A and AAAA record; /etc/hosts and search domains count, as they do for any other program of the pod. */
export type Resolve = (host: string) => Promise<string[]>;
const byDns: Resolve = async (host) => (await lookup(host, { all: true })).map(({ address }) => address);

// getaddrinfo occupies a thread of the pool that files are read with: one at a time, so that a DNS outage stops nothing else.
let turn: Promise<unknown> = Promise.resolve();
function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const mine = turn.then(work, work);
  turn = mine.catch(() => undefined); // its caller is told
  return mine;
}

const FIRST_RETRY_MS = 250;

/**
 * The processes behind an endpoint, resolved again every `everyMs`: pods come without any connection breaking, so that waiting for one to
 * break would leave the new ones idle. A name that cannot be resolved keeps its last addresses: a DNS outage is no reason to forget.
 */
export class Addresses {
  readonly #places: readonly Place[];
  readonly #everyMs: () => number;
  readonly #resolve: Resolve;
  readonly #known = new Map<string, string[]>();
  readonly #listeners = new Set<() => void>();
  #current: Address[] = [];
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(places: readonly Place[], everyMs: () => number, resolve: Resolve = byDns) {
    this.#places = places;
    this.#everyMs = everyMs;
    this.#resolve = resolve;
    this.#gather();
    if (places.some(({ host }) => isIP(host) === 0)) void this.#look(FIRST_RETRY_MS);
  }

  get current(): readonly Address[] {
    return this.#current;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #look(retryMs: number): Promise<void> {
    let failed = false;
    for (const { host } of this.#places) {
      if (isIP(host) !== 0 || this.#closed) continue;
      try {
        const found = await inTurn(() => this.#resolve(host));
        if (found.length > 0) this.#known.set(host, [...new Set(found)].sort());
        else failed = true;
      } catch {
        failed = true; // what was known stays, and it is asked again
      }
    }
    if (this.#closed) return;
    this.#gather();
    const soon = failed && this.#current.length === 0;
    const waitMs = soon ? retryMs : this.#everyMs();
    this.#timer = setTimeout(() => void this.#look(Math.min(retryMs * 2, this.#everyMs())), waitMs).unref();
  }

  #gather(): void {
    const next = new Map<string, Address>();
    for (const place of this.#places)
      for (const host of isIP(place.host) === 0 ? (this.#known.get(place.host) ?? []) : [place.host]) {
        const address = { ...place, host };
        next.set(addressKey(address), address);
      }
    const before = this.#current.map(addressKey).join();
    this.#current = [...next.values()];
    if ([...next.keys()].join() !== before) for (const listener of [...this.#listeners]) listener();
  }
}
