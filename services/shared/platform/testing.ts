import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino, { type Logger } from 'pino';
import { fileKeyValue } from './adapters/local/key-value.ts';
import { localLease } from './adapters/local/lease.ts';
import { localWake } from './adapters/local/wake.ts';
import { sqliteJobs } from './adapters/sqlite/jobs.ts';
import type { Call } from './call.ts';
import { systemCall } from './call.ts';
import { startAll } from './lifecycle.ts';
import { createMetrics } from './metrics.ts';
import type { Context, Module, Settings, SettingsTable } from './module.ts';
import type { AuditEvent, Jobs } from './ports.ts';
import { Services } from './rpc.ts';
import { defaultsOf, LiveSettings, mergeTables, parseValue } from './setting-values.ts';
import { platformSettings } from './settings.ts';
import { createTracing, type SpanMaker } from './trace.ts';
import { loopbackWire } from './wire.ts';

export interface TestOptions {
  /** Started in this order. Without modules: serve what you need with `context.serve` right after. */
  modules?: readonly Module[];
  /** As a person would write them: 'http.port': 0, 'storage.smallLimit': '4MiB'. */
  settings?: Record<string, unknown>;
  /** Tables of modules that are not started here, for code under test that reads their settings. */
  tables?: readonly SettingsTable[];
  /** Kept after the test when given; a temporary directory, removed on stop, when not. */
  dataDir?: string;
  /** The same handlers over real grpc-js and HTTP on loopback. */
  overGrpc?: boolean;
  log?: Logger;
  /** Makes the spans; without it nothing is traced. */
  spans?: SpanMaker;
}

export interface TestContext extends Context {
  readonly audit: Context['audit'] & { readonly recorded: { call: Call; event: AuditEvent }[] };
  /** A call by the system in tenant main. */
  call(overrides?: Partial<Call>): Call;
  /** What a SIGHUP with these changed rows would do. */
  change(settings: Record<string, unknown>): void;
  drain(signal?: AbortSignal): Promise<void>;
  stop(): Promise<void>;
}

/**
 * A whole house in one process for a test: the real adapters on a temporary directory, no log output. Direct calls encode and
 * decode every message and apply deadline and cancel, so that direct and gRPC cannot drift (ARCHITECTURE §5).
 */
export async function createTestContext(options: TestOptions = {}): Promise<TestContext> {
  const modules = options.modules ?? [];
  const table = mergeTables([platformSettings, ...modules.map(({ settings }) => settings), ...(options.tables ?? [])]);
  const values = defaultsOf(table);
  const assign = (changes: Record<string, unknown>) => {
    for (const [key, raw] of Object.entries(changes)) {
      if (!table[key]) throw new Error(`no module of this test declares the setting ${key}`);
      // Limits may be set below their minimum here: a test drives each one to its refusal.
      const parsed = parseValue(key, { ...table[key], min: undefined, max: undefined }, raw);
      if ('problem' in parsed) throw new Error(parsed.problem);
      values.set(key, parsed.value);
    }
  };
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'gantry-test-')));
  assign({ dataDir, ...options.settings });
  const settings = new LiveSettings(table, new Map(values));
  const log = options.log ?? pino({ level: 'silent' });
  const metrics = createMetrics();
  const recorded: { call: Call; event: AuditEvent }[] = [];
  const jobs = lazyJobs(dataDir, settings, log);
  const trace = createTracing(options.spans);
  const wire = options.overGrpc ? await loopbackWire(settings, { metrics, trace }) : undefined;
  const services = new Services(
    { codec: true, timeoutMs: () => settings.number('platform.rpcTimeoutMs') },
    wire?.remote ?? { method: () => undefined, bulk: () => undefined },
    options.overGrpc,
  );
  await wire?.attach(services);
  const closeAll = async () => {
    await wire?.close();
    await jobs.close();
    await metrics.close();
    if (!options.dataDir) await rm(dataDir, { recursive: true, force: true });
  };
  const shared = {
    settings,
    log,
    metrics,
    trace,
    audit: { record: (call: Call, event: AuditEvent) => void recorded.push({ call, event }), recorded },
    wake: localWake(log),
    jobs,
    kv: await fileKeyValue(join(dataDir, 'state', 'kv'), () => settings.number('platform.keyValueMax')),
    lease: localLease(),
    dataDir,
    services,
  };
  const started = await startAll(modules, shared).catch(async (error) => {
    await closeAll();
    throw error;
  });
  services.seal(modules.length > 0);
  return {
    ...started.context,
    audit: shared.audit,
    call: (overrides = {}) => ({ ...systemCall('main', 'test'), ...overrides }),
    change(changes) {
      assign(changes);
      settings.replace(new Map(values));
    },
    drain: (signal = new AbortController().signal) => started.drain(signal),
    async stop() {
      try {
        await started.stop();
      } finally {
        await closeAll();
      }
    },
  };
}

/** The queue's thread starts with its first use: most tests never need it. */
function lazyJobs(dataDir: string, settings: Settings, log: Logger): Jobs & { close(): Promise<void> } {
  let opening: ReturnType<typeof sqliteJobs> | undefined;
  const open = () =>
    (opening ??= sqliteJobs(
      join(dataDir, 'derived', 'jobs.sqlite'),
      () => ({ jobsMax: settings.number('platform.jobsMax'), payloadMax: settings.number('platform.jobPayloadMax') }),
      log,
    ));
  return {
    add: async (job) => (await open()).add(job),
    work(queue, workOptions, handler) {
      const stop = open().then((jobs) => jobs.work(queue, workOptions, handler));
      return async () => (await stop)();
    },
    list: async (queue) => (await open()).list(queue),
    retry: async (tenant, queue, key) => (await open()).retry(tenant, queue, key),
    remove: async (tenant, queue, key) => (await open()).remove(tenant, queue, key),
    close: async () => (await opening)?.close(),
  };
}

/** Starts modules in order, for tests that want only that. */
export async function startModules(
  modules: readonly Module[],
  options: Omit<TestOptions, 'modules'> = {},
): Promise<{ context: TestContext; stop(): Promise<void> }> {
  const context = await createTestContext({ ...options, modules });
  return { context, stop: () => context.stop() };
}
