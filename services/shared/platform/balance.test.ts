import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { after, afterEach, describe, test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { DataService } from '#proto/storage/v1/storage.ts';
import { Balance, Lost, NotSent, RetryBudget } from './balance.ts';
import { systemCall } from './call.ts';
import { Addresses, type Place } from './endpoints.ts';
import { GantryError } from './errors.ts';
import { type HealthResponse, healthService } from './health.grpc.ts';
import { serveHealth } from './health.http.ts';
import { BULK } from './routes.ts';
import { ONCE, REPEATABLE, REPEATABLE_ROUTES } from './rpc.repeat.ts';
import { Services } from './rpc.ts';
import type { Bytes } from './rpc.types.ts';
import { Scope } from './scope.ts';
import { defaultsOf, LiveSettings } from './setting-values.ts';
import { platformSettings } from './settings.ts';
import { createTestContext } from './testing.ts';
import { type InternalDoors, openInternalDoors, type Remotes, remotes } from './wire.ts';

const call = systemCall('main', 'test');
const settingsOf = (changes: Record<string, unknown> = {}) => {
  const values = defaultsOf(platformSettings).set('platform.connectMs', 2_000);
  for (const [key, value] of Object.entries(changes)) values.set(key, value);
  return new LiveSettings(platformSettings, values);
};

describe('several processes behind one name', () => {
  const opened: { close(): unknown }[] = [];
  afterEach(async () => {
    for (const one of opened.splice(0).reverse()) await one.close();
  });

  interface Process {
    doors: InternalDoors;
    place: Place;
    served: number;
    /** Streams that are open: each waits for `goOn`. */
    goOn: PromiseWithResolvers<void>;
  }
  /** A process whose data service says its name. */
  async function start(name: string, at?: Place): Promise<Process> {
    const settings = settingsOf();
    const services = new Services(
      { codec: false, timeoutMs: () => 5_000 },
      { method: () => undefined, bulk: () => undefined },
    );
    const ports = { grpc: at?.grpcPort ?? 0, bulk: at?.bulkPort ?? 0 };
    const doors = await openInternalDoors(services, settings, '', ports);
    const place = { host: '127.0.0.1', grpcPort: doors.grpcPort, bulkPort: doors.bulkPort };
    const process: Process = { doors, place, served: 0, goOn: Promise.withResolvers() };
    const answer = async () => {
      process.served++;
      return { positions: [{ lane: name, sequence: 1 }] };
    };
    services.serve(DataService, {
      heads: answer,
      append: async () => ({ ...(await answer()), ids: [] }),
      space: async () => {
        process.served++;
        await process.goOn.promise;
        return { freeBytes: 0, reserveBytes: 0, accepting: true, archiveBytes: 0 };
      },
      async *readLog() {
        yield { lane: name, sequence: 1, tableOfContents: Buffer.alloc(0) };
        await process.goOn.promise;
        yield { lane: name, sequence: 2, tableOfContents: Buffer.alloc(0) };
      },
    });
    services.serveBulk(BULK.read, async () => {
      process.served++;
      return {
        response: { length: 1 },
        body: (async function* () {
          yield Buffer.from(name);
          await process.goOn.promise;
          yield Buffer.from('end');
        })(),
      };
    });
    services.serveBulk(BULK.putLarge, async (_call, _request, body) => {
      process.served++;
      let length = 0;
      for await (const chunk of body) length += chunk.length;
      return { response: { object: name, length, digest: Buffer.alloc(0) } };
    });
    opened.push(doors);
    return process;
  }
  function clientOf(places: Place[], changes: Record<string, unknown> = {}): { there: Services; remote: Remotes } {
    const remote = remotes(() => ({ name: 'storage', places }), settingsOf(changes), '');
    opened.push(remote);
    return { there: new Services({ codec: false, timeoutMs: () => 5_000 }, remote), remote };
  }
  const who = async (there: Services) => (await there.client(DataService).heads(call, {})).positions[0]!.lane;
  const text = async (body: Bytes) => {
    let all = '';
    for await (const chunk of body) all += chunk;
    return all;
  };
  async function* chunks(counter: { pulled: number }): AsyncGenerator<Buffer> {
    for (let i = 0; i < 10; i++) {
      counter.pulled++;
      yield Buffer.alloc(1_000);
    }
  }

  test('calls and bytes go round them all', async () => {
    const [a, b, c] = [await start('a'), await start('b'), await start('c')];
    for (const one of [a, b, c]) one.goOn.resolve();
    const { there } = clientOf([a.place, b.place, c.place]);
    const calls: string[] = [];
    for (let i = 0; i < 9; i++) calls.push(await who(there));
    for (const name of ['a', 'b', 'c']) assert.equal(calls.filter((one) => one === name).length, 3, name);
    const reads: string[] = [];
    for (let i = 0; i < 9; i++) reads.push(await text((await there.bulk(BULK.read)(call, { places: [] })).body));
    for (const name of ['aend', 'bend', 'cend']) assert.equal(reads.filter((one) => one === name).length, 3, name);
  });

  test('one that stands still gets one call, the others the rest; everywhere asks each', async () => {
    const [a, b] = [await start('a'), await start('b')];
    const { there } = clientOf([a.place, b.place]);
    await who(there);
    await who(there);
    // Held by a process that does not answer: it stays the busier one.
    const held = there.client(DataService).space(call, {});
    while (a.served + b.served < 3) await new Promise((resolve) => setImmediate(resolve));
    const answers = new Set<string>();
    for (let i = 0; i < 10; i++) answers.add(await who(there));
    assert.equal(answers.size, 1);
    const each = await Promise.all(
      there.everywhere(DataService).map(async (one) => (await one.heads(call, {})).positions[0]!.lane),
    );
    assert.deepEqual(each.sort(), ['a', 'b']);
    a.goOn.resolve();
    b.goOn.resolve();
    await held;
  });

  test('a process that is gone costs no call; nobody there is unavailable within connectMs', async () => {
    const [a, b] = [await start('a'), await start('b')];
    const { there, remote } = clientOf([a.place, b.place], { 'platform.connectMs': 300 });
    assert.deepEqual(remote.unreached(['storage', 'nowhere']).includes('storage'), true);
    for (let i = 0; i < 4; i++) await who(there);
    assert.deepEqual(remote.unreached(['storage']), []);
    await a.doors.close();
    for (let i = 0; i < 20; i++) assert.equal(await who(there), 'b');
    const sent = { pulled: 0 };
    for (let i = 0; i < 3; i++) {
      const { response } = await there.bulk(BULK.putLarge)(call, { expectedBytes: 10 }, chunks(sent));
      assert.deepEqual([response.object, response.length], ['b', 10_000]);
    }
    await b.doors.close();
    await assert.rejects(who(there), { code: 'unavailable' });
    const unsent = { pulled: 0 };
    await assert.rejects(there.bulk(BULK.putLarge)(call, { expectedBytes: 10 }, chunks(unsent)), {
      code: 'unavailable',
    });
    assert.equal(unsent.pulled, 0, 'a body that can be pulled once waits until somebody takes it');
  });

  test('a call waits for a process that comes back', async () => {
    const a = await start('a');
    const { there } = clientOf([a.place]);
    assert.equal(await who(there), 'a');
    await a.doors.close();
    const waiting = who(there);
    const bulk = there.bulk(BULK.putLarge)(call, { expectedBytes: 1 }, chunks({ pulled: 0 }));
    const again = await start('again', a.place);
    assert.equal(await waiting, 'again');
    assert.equal((await bulk).response.object, 'again');
    assert.equal(again.served, 2);
  });

  test('one that leaves answers what it has, and gets nothing new', async () => {
    const [a, b] = [await start('a'), await start('b')];
    b.goOn.resolve();
    const { there } = clientOf([a.place, b.place]);
    // Something in flight at a, on both planes.
    const open: AsyncIterator<unknown>[] = [];
    for (;;) {
      const rows = there.client(DataService).readLog(call, { after: [], lanes: [] })[Symbol.asyncIterator]();
      const first = (await rows.next()).value as { lane: string };
      open.push(rows);
      if (first.lane === 'a') break;
    }
    let body: Bytes;
    for (;;) {
      body = (await there.bulk(BULK.read)(call, { places: [] })).body;
      const iterator = body[Symbol.asyncIterator]();
      const first = (await iterator.next()).value!.toString();
      if (first !== 'a') {
        await iterator.return?.();
        continue;
      }
      body = { [Symbol.asyncIterator]: () => iterator };
      break;
    }
    const stop = new AbortController();
    let drained = 0;
    const draining = Promise.all(
      [a.doors.drainBulk(stop.signal), a.doors.drainGrpc(stop.signal)].map((one) => one.then(() => drained++)),
    );
    const before = a.served;
    for (let i = 0; i < 10; i++) {
      assert.equal(await who(there), 'b');
      const { response } = await there.bulk(BULK.putLarge)(call, { expectedBytes: 10 }, chunks({ pulled: 0 }));
      assert.equal(response.object, 'b');
    }
    assert.equal(a.served, before);
    assert.equal(drained, 0, 'it waits for what is in flight');
    a.goOn.resolve();
    assert.equal(await text(body), 'end');
    const last = await open.at(-1)!.next();
    assert.deepEqual((last.value as { sequence: number }).sequence, 2);
    await open.at(-1)!.next();
    for (const rows of open) await rows.return?.();
    await draining;
  });

  test('silence ends an answer that is waited for, and a read goes to another process', async () => {
    // Takes connections and says nothing, as a stopped process does.
    const mute = net.createServer((socket) => socket.resume());
    mute.listen(0, '127.0.0.1');
    await once(mute, 'listening');
    opened.push(mute);
    const { port } = mute.address() as net.AddressInfo;
    const b = await start('b');
    b.goOn.resolve();
    const silent = { ...b.place, bulkPort: port };
    const { there } = clientOf([silent, b.place], { 'platform.stallMs': 200 });
    for (let i = 0; i < 4; i++)
      assert.equal(await text((await there.bulk(BULK.read)(call, { places: [] })).body), 'bend');
    const { there: alone } = clientOf([silent], { 'platform.stallMs': 100, 'platform.connectMs': 300 });
    const sent = { pulled: 0 };
    await assert.rejects(alone.bulk(BULK.putLarge)(call, { expectedBytes: 1 }, chunks(sent)), { code: 'unavailable' });
    assert.equal(sent.pulled, 0);
    await assert.rejects(alone.bulk(BULK.read)(call, { places: [] }), { code: 'unavailable' });
  });

  test('an answer that is cut off, and one that stops: unavailable, and nothing is given twice', async () => {
    const a = await start('a');
    const { there } = clientOf([a.place], { 'platform.stallMs': 150 });
    const stopped = (await there.bulk(BULK.read)(call, { places: [] })).body[Symbol.asyncIterator]();
    assert.equal((await stopped.next()).value!.toString(), 'a');
    await assert.rejects(stopped.next(), { code: 'unavailable' });
    const cut = (await there.bulk(BULK.read)(call, { places: [] })).body[Symbol.asyncIterator]();
    await cut.next();
    const rows = there.client(DataService).readLog(call, { after: [], lanes: [] })[Symbol.asyncIterator]();
    await rows.next();
    await a.doors.close();
    await assert.rejects(cut.next(), { code: 'unavailable' });
    await assert.rejects(rows.next(), { code: 'unavailable' });
  });

  test('answers without bytes give their connection back, whoever ignores them', async () => {
    const a = await start('a');
    const { there } = clientOf([a.place], { 'platform.bulkSockets': 1 });
    for (let i = 0; i < 5; i++) await there.bulk(BULK.putLarge)(call, { expectedBytes: 1 }, [Buffer.alloc(1)]);
    // And a body that was never looked at is left.
    for (let i = 0; i < 3; i++)
      await (await there.bulk(BULK.read)(call, { places: [] })).body[Symbol.asyncIterator]().return?.();
    assert.equal(a.served, 8);
  });

  test('health: grpc.health.v1 tells the truth about the process and about services', async () => {
    let ready = false;
    const services = new Services(
      { codec: false, timeoutMs: () => 5_000 },
      { method: () => undefined, bulk: () => undefined },
    );
    const doors = await openInternalDoors(
      services,
      settingsOf(),
      'a secret of sixteen',
      { grpc: 0, bulk: undefined },
      () => ready,
    );
    opened.push(doors);
    const Health = grpc.makeGenericClientConstructor(healthService, 'Health');
    const client = new Health(`127.0.0.1:${doors.grpcPort}`, grpc.credentials.createInsecure());
    opened.push(client);
    const check = (name: string) =>
      new Promise<number>((resolve, reject) =>
        client.Check!({ service: name }, (error: grpc.ServiceError | null, answer: HealthResponse) =>
          error ? reject(error) : resolve(answer.status),
        ),
      );
    assert.equal(await check(''), 2);
    ready = true;
    assert.equal(await check(''), 1);
    await assert.rejects(check('gantry.nothing.v1.X'), { code: grpc.status.NOT_FOUND });
    const watch = client.Watch!({ service: '' }) as unknown as grpc.ClientReadableStream<HealthResponse>;
    watch.on('error', () => undefined);
    const seen = watch[Symbol.asyncIterator]();
    assert.equal((await seen.next()).value.status, 1);
    ready = false;
    assert.equal((await seen.next()).value.status, 2);
    watch.cancel();
  });
});

test('healthPort: alive, ready, metrics', async () => {
  const context = await createTestContext();
  const door = await serveHealth(context, '127.0.0.1', 0);
  try {
    const get = (path: string, method = 'GET') => fetch(`http://127.0.0.1:${door.port}${path}`, { method });
    assert.equal((await get('/healthz')).status, 200);
    assert.equal((await get('/readyz')).status, 200);
    assert.match(await (await get('/metrics')).text(), /gantry_process_resident_memory_bytes/);
    assert.equal((await get('/readyz', 'POST')).status, 404);
    assert.equal((await get('/')).status, 404);
    await context.drain();
    assert.equal((await get('/readyz')).status, 503);
    assert.equal((await get('/healthz')).status, 200);
  } finally {
    await door.close();
    await context.stop();
  }
});

describe('names', () => {
  test('every record is an address; new ones are noticed, and an outage of DNS forgets none', async () => {
    let answer: () => string[] = () => ['10.0.0.2', '10.0.0.1'];
    let asked = 0;
    const addresses = new Addresses(
      [{ host: 'storage', grpcPort: 1, bulkPort: 2 }],
      () => 5,
      async () => {
        asked++;
        return answer();
      },
    );
    after(() => addresses.close());
    const changed = () => new Promise<void>((resolve) => addresses.onChange(resolve));
    const hosts = () => addresses.current.map(({ host }) => host);
    await changed();
    assert.deepEqual(hosts(), ['10.0.0.1', '10.0.0.2']);
    answer = () => ['10.0.0.3'];
    await changed();
    assert.deepEqual(hosts(), ['10.0.0.3']);
    for (const bad of [() => [], () => assert.fail('no DNS')] as (() => string[])[]) {
      answer = bad;
      for (const until = asked + 3; asked < until; ) await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(hosts(), ['10.0.0.3']);
    }
    addresses.close();
  });

  test('addresses need no DNS and are there at once; a real name is resolved', async () => {
    const fixed = new Addresses(
      [{ host: '::1', grpcPort: 1, bulkPort: 2 }],
      () => 1_000,
      () => assert.fail('asked'),
    );
    assert.deepEqual(fixed.current, [{ host: '::1', grpcPort: 1, bulkPort: 2 }]);
    fixed.close();
    const real = new Addresses([{ host: 'localhost', grpcPort: 1, bulkPort: 2 }], () => 60_000);
    await new Promise<void>((resolve) => real.onChange(resolve));
    assert.ok(real.current.some(({ host }) => host === '127.0.0.1'));
    real.close();
  });
});

describe('repeating', () => {
  const balanced = (percent: number, places = 3) => {
    const addresses = new Addresses(
      Array.from({ length: places }, (_, i) => ({ host: `10.0.0.${i + 1}`, grpcPort: 1, bulkPort: 1 })),
      () => 1_000,
    );
    const options = { connectMs: () => 200, retryPercent: () => percent };
    return new Balance<string>(
      addresses,
      options,
      ({ host }) => host,
      () => undefined,
    );
  };
  const ask = (balance: Balance<string>, repeatable: boolean, run: (host: string) => Promise<string>) =>
    balance.call('x', new Scope(call, Infinity, 'x'), repeatable, (host) => run(host));

  test('what may have been served is repeated only where that is harmless, elsewhere, and at most twice', async () => {
    const hosts: string[] = [];
    const failing = async (host: string): Promise<string> => {
      hosts.push(host);
      throw new Lost(new Error('reset'));
    };
    const balance = balanced(10);
    await assert.rejects(ask(balance, false, failing), { code: 'unavailable' });
    assert.equal(hosts.length, 1);
    hosts.length = 0;
    await assert.rejects(ask(balance, true, failing), { code: 'unavailable' });
    assert.equal(new Set(hosts).size, 3);
    assert.equal(hosts.length, 3);
  });

  test('answers are not repeated, whatever they say', async () => {
    let made = 0;
    const answer = ask(balanced(100), true, async () => {
      made++;
      throw new GantryError('unavailable', 'the index is behind');
    });
    await assert.rejects(answer, { message: 'the index is behind' });
    assert.equal(made, 1);
  });

  test('no storm: when everything fails, a thousand calls are little more than a thousand attempts', async () => {
    for (const [percent, most] of [
      [10, 1_115],
      [0, 1_000],
    ] as const) {
      const balance = balanced(percent);
      let made = 0;
      for (let i = 0; i < 1_000; i++)
        await ask(balance, true, async () => {
          made++;
          throw new Lost(new Error('reset'));
        }).catch(() => undefined); // counted, not looked at // each fails: how many were made is what counts
      assert.ok(made >= 1_000 && made <= most, `${made}`);
    }
  });

  test('who cannot be reached is asked again at growing distances, not by every call', async () => {
    const balance = balanced(10, 1);
    let attempts = 0;
    const calls = Array.from({ length: 50 }, () =>
      ask(balance, true, async () => {
        attempts++;
        throw new NotSent(new Error('refused'));
      }).catch((error) => error.code),
    );
    assert.deepEqual(new Set(await Promise.all(calls)), new Set(['unavailable']));
    assert.ok(attempts <= 150, `${attempts}`); // each at first, and again after 100 ms; not every 50 ms
  });

  test('the budget fills with calls and is spent by repetitions', () => {
    const budget = new RetryBudget(() => 50);
    while (budget.spend());
    budget.earn();
    assert.equal(budget.spend(), false);
    budget.earn();
    assert.equal(budget.spend(), true);
    assert.equal(budget.spend(), false);
  });

  test('each method of each proto is on one side of the table', () => {
    const root = new URL('../../../proto/gantry/', import.meta.url);
    const methods: string[] = [];
    for (const file of readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.proto'),
    )) {
      const source = readFileSync(new URL(file, root), 'utf8');
      const pack = /^package ([\w.]+);/m.exec(source)?.[1];
      let service = '';
      for (const [, kind, name] of source.matchAll(/\b(service|rpc) (\w+)/g))
        if (kind === 'service') service = name!;
        else methods.push(`/${pack}.${service}/${name}`);
    }
    assert.ok(methods.length > 20);
    assert.deepEqual([...REPEATABLE, ...ONCE].sort(), methods.sort());
    for (const route of REPEATABLE_ROUTES)
      assert.ok(
        Object.values(BULK).some(({ name }) => name === route),
        route,
      );
  });
});
