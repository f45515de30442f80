import { accessSync, constants, mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ulid } from 'ulid';
import { openPlatform } from './adapters/open.ts';
import { fileAudit, streamAudit } from './audit.ts';
import { systemCall } from './call.ts';
import { type Config, ConfigError, loadConfig } from './config.ts';
import { GantryError } from './errors.ts';
import { serveHealth } from './health.http.ts';
import { type Started, startAll } from './lifecycle.ts';
import { createMetrics } from './metrics.ts';
import type { Context, Metrics, Module, SettingsTable } from './module.ts';
import { hostPort, isLoopback, listenHosts } from './net.ts';
import { observedRemote, observedServices } from './observe-wire.ts';
import { Services } from './rpc.ts';
import type { LiveSettings } from './setting-values.ts';
import { createLog, standardOutput } from './telemetry.ts';
import { createTracing, TracedRequests } from './trace.ts';
import { configuredRemotes, openInternalDoors, type Remotes } from './wire.ts';

/** sysexits.h: what systemd and scripts can tell apart. */
export const EXIT = { ok: 0, failed: 1, usage: 64, config: 78 } as const;

// Ctrl-C reaches the whole process group, and npm forwards it once more: two signals so close together are one wish.
const SAME_SIGNAL_MS = 500;

/**
 * One process: configuration, adapters, modules in order; then signals decide. Nothing here knows which modules there are.
 * `others` are the settings of modules that this role does not start: they are checked too, so that one file serves all roles.
 * `needs` names what this role asks of other processes: it is ready once each was reached.
 */
export async function runProcess(
  role: string,
  modules: readonly Module[],
  others: readonly SettingsTable[] = [],
  needs: readonly string[] = [],
): Promise<void> {
  const began = performance.now();
  const config = configure(modules, others, needs);
  const { settings } = config;
  const pretty =
    settings.string('platform.logFormat') === 'pretty' ||
    (settings.string('platform.logFormat') === 'auto' && process.stdout.isTTY === true);
  const output = standardOutput();
  const traced = new TracedRequests();
  const log = createLog({ level: settings.string('platform.logLevel'), pretty, destination: output, traced });

  const crash = (error: unknown, what: string) => {
    log.fatal({ err: error instanceof Error ? error : new Error('not an error') }, what);
    process.exit(EXIT.failed); // crash-only: what was acknowledged is on stable storage, and recovery is the ordinary start
  };
  process.on('uncaughtException', (error) => crash(error, 'an unexpected failure ends this process'));
  process.on('unhandledRejection', (error) => crash(error, 'an unexpected failure ends this process'));

  const leave = (code: number) => void output.written().then(() => process.exit(code));

  let house: House | undefined;
  let asked = 0;
  const onSignal = (signal: NodeJS.Signals) => {
    if (asked === 0) {
      asked = performance.now();
      if (house) void end(house, signal);
      else {
        // Nothing was acknowledged yet, and a start can take long (an index that is rebuilt): it is simply left.
        log.info({ signal }, 'asked to end while starting');
        leave(EXIT.ok);
      }
    } else if (performance.now() - asked > SAME_SIGNAL_MS) {
      log.warn({ signal }, 'asked a second time: leaving at once');
      leave(EXIT.failed);
    }
  };
  const end = async ({ started, audit, close }: House, signal: string) => {
    const drainMs = settings.number('platform.drainMs');
    log.info({ signal, drainMs }, 'draining: what is in flight may finish, nothing new is taken');
    await started.drain(AbortSignal.timeout(drainMs));
    audit('Application Activity', 'process.stop');
    const late = setTimeout(() => {
      log.error({ stopMs: settings.number('platform.stopMs') }, 'not everything stopped in time: leaving anyway');
      leave(EXIT.failed);
    }, settings.number('platform.stopMs'));
    let code: number = EXIT.ok;
    try {
      await close();
    } catch (error) {
      log.error({ err: error }, 'not everything stopped properly');
      code = EXIT.failed;
    }
    clearTimeout(late);
    log.info({ signal }, 'stopped');
    leave(code);
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  process.on('SIGHUP', () => reload(config, log));

  try {
    house = await openHouse(config, modules, log, { role, traced, needs, write: output.write });
  } catch (error) {
    if (error instanceof GantryError)
      log.fatal({ code: error.code, cause: error.cause }, `the start failed: ${error.message}`);
    else log.fatal({ err: error }, 'the start failed');
    process.exit(error instanceof GantryError && error.code === 'failed-precondition' ? EXIT.config : EXIT.failed);
  }

  announce(role, config, pretty, log, output, began);
  house.audit('Application Activity', 'process.start');
}

function configure(modules: readonly Module[], others: readonly SettingsTable[], needs: readonly string[]): Config {
  try {
    return loadConfig(modules, process.env, process.cwd(), others, needs);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const count = error.problems.length === 1 ? 'one thing' : `${error.problems.length} things`;
    process.stderr.write(
      `Gantry does not start, because of ${count} in its configuration:\n${error.problems.map((problem) => `  - ${problem}\n`).join('')}`,
    );
    process.exit(EXIT.config);
  }
}

export interface House {
  started: Started;
  audit(event: string, useCase: string): void;
  close(): Promise<void>;
}

export interface HouseOptions {
  role: string;
  traced?: TracedRequests;
  doors?: boolean;
  needs?: readonly string[];
  /** Standard output, for platform.auditTo: stdout. */
  write?: (text: string) => void;
}

/** `doors` false: none to other processes either, for a tool that works on a stopped archive (`gantry verify`). */
export async function openHouse(
  { settings }: Config,
  modules: readonly Module[],
  log: ReturnType<typeof createLog>,
  { role, traced, doors = true, needs = [], write }: HouseOptions,
): Promise<House> {
  const dataDir = settings.string('dataDir');
  // Patients' data: for the owner's eyes only, whatever the umask.
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    accessSync(dataDir, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new GantryError(
      'failed-precondition',
      `the data directory ${dataDir} cannot be used (${code}): make it writable for this user, or set GANTRY_DATA_DIR`,
      { cause },
    );
  }
  const closers: (() => Promise<void> | void)[] = [];
  const close = async () => {
    const failures: unknown[] = [];
    for (const one of closers.splice(0).reverse()) {
      try {
        await one();
      } catch (error) {
        failures.push(error); // the rest is closed all the same
      }
    }
    if (failures.length > 0)
      throw failures.length === 1 ? failures[0] : new AggregateError(failures, 'not everything could be closed');
  };
  try {
    const token = await internalToken(settings);
    const metrics = createMetrics({ role });
    closers.push(() => metrics.close());
    const spans = await spanMaker(settings, role, metrics);
    closers.push(() => spans?.close());
    const trace = createTracing(spans, traced);
    // First of all that touches the data directory: embedded, it refuses a second process (job-store.ts).
    const platform = await openPlatform(settings, dataDir, log, metrics);
    closers.push(() => platform.close());
    const auditLimits = () => ({
      fileMax: settings.number('platform.auditFileMax'),
      queueMax: settings.number('platform.auditQueueMax'),
    });
    const audit =
      settings.string('platform.auditTo') === 'stdout' && write !== undefined
        ? streamAudit(write, metrics)
        : await fileAudit(join(dataDir, 'state', 'audit'), auditLimits, metrics, log);
    closers.push(() => audit.close());
    const remotes = configuredRemotes(settings, token);
    closers.push(() => remotes.close());
    const telemetry = { metrics, trace };
    const services = new Services(
      { codec: false, timeoutMs: () => settings.number('platform.rpcTimeoutMs') },
      observedRemote(remotes, telemetry),
    );
    const shared = {
      settings,
      log,
      metrics,
      trace,
      audit,
      wake: platform.wake,
      jobs: platform.jobs,
      kv: platform.kv,
      lease: platform.lease,
      dataDir,
      services,
    };
    const ports = {
      grpc: settings.number('platform.grpcPort') || undefined,
      bulk: settings.number('platform.bulkPort') || undefined,
    };
    const opened = async (context: Context) => {
      if (!doors) return undefined;
      const internal = await openInternalDoors(observedServices(services, telemetry), settings, token, ports, () =>
        context.ready(),
      );
      closers.push(() => internal.close());
      return internal;
    };
    // A start may wait (for S3): who asks is told that it lives, and why it is not ready.
    const serveOwnHealth = async (context: Context) => {
      const healthPort = settings.number('platform.healthPort');
      if (!doors || healthPort === 0) return;
      const health = await serveHealth(context, settings.string('platform.healthHost'), healthPort);
      closers.push(() => health.close());
    };
    const checks = [...platform.checks, { module: 'audit', check: () => audit.health() }];
    if (doors && needs.length > 0) checks.push({ module: 'endpoints', check: reachedOnce(remotes, needs) });
    const started = await startAll(modules, shared, opened, checks, serveOwnHealth);
    closers.push(() => started.stop());
    const run = ulid();
    return {
      started,
      close,
      audit: (event, useCase) =>
        audit.record(systemCall('main', run), {
          event,
          action: 'E',
          outcome: 0,
          useCase,
          objects: [{ type: 'system', id: 'gantry' }],
        }),
    };
  } catch (error) {
    await close().catch((failure) => log.error({ err: failure }, 'closing after a failed start'));
    throw error;
  }
}

/**
 * What this process asks of others was there once. Later outages do not make it unready: storing goes on while the index is gone, and a
 * door that closes because of a part behind it turns one failure into two.
 */
function reachedOnce(remotes: Remotes, needs: readonly string[]): () => { ready: boolean; detail: string } {
  let missing = [...needs];
  return () => {
    if (missing.length > 0) missing = remotes.unreached(missing);
    return missing.length === 0
      ? { ready: true, detail: 'each was reached' }
      : { ready: false, detail: `no process was reached yet of: ${missing.join(', ')}` };
  };
}

/** OpenTelemetry is loaded where somebody takes the spans, and nowhere else. */
async function spanMaker(settings: LiveSettings, role: string, metrics: Metrics) {
  const endpoint = settings.string('platform.otlpEndpoint');
  if (endpoint === '') return undefined;
  const { openTelemetry } = await import('./trace.otel.ts');
  const sample = () => settings.number('platform.traceSample');
  const queueMax = () => settings.number('platform.traceQueueSpans');
  return openTelemetry({ endpoint, sample, queueMax, role }, metrics);
}

async function internalToken(settings: LiveSettings): Promise<string> {
  const file = settings.string('platform.internalTokenFile');
  if (file === '') return '';
  const token = (
    await readFile(file, 'utf8').catch((cause) => {
      throw new GantryError(
        'failed-precondition',
        `platform.internalTokenFile: ${file} cannot be read (${cause.code})`,
        { cause },
      );
    })
  ).trim();
  if (token.length < 16)
    throw new GantryError(
      'failed-precondition',
      `platform.internalTokenFile: ${file} must hold a secret of at least 16 characters`,
    );
  return token;
}

function reload(config: Config, log: ReturnType<typeof createLog>): void {
  try {
    const { changed, needRestart } = config.reload();
    log.info(
      { settings: changed },
      changed.length > 0 ? 'settings were read again' : 'settings were read again: nothing changed',
    );
    if (needRestart.length > 0)
      log.warn({ settings: needRestart }, 'these settings differ now and need a restart to take effect');
  } catch (error) {
    if (error instanceof ConfigError)
      log.error({ problems: error.problems }, 'the settings could not be read again: the old ones stay in force');
    else log.error({ err: error }, 'the settings could not be read again: the old ones stay in force');
  }
}

/** Where everything is. For people on a terminal a few lines; as JSON one. */
function announce(
  role: string,
  { settings, file }: Config,
  pretty: boolean,
  log: ReturnType<typeof createLog>,
  output: { write(text: string): void },
  began: number,
): void {
  const has = (key: string) => Object.hasOwn(settings.table, key);
  const milliseconds = Math.round(performance.now() - began);
  const doors = [
    ['http', 'HTTP', 'http://'],
    ['dimse', 'DICOM', ''],
  ].filter(([key]) => has(`${key}.port`) && settings.number(`${key}.port`) > 0);
  const addresses = doors.map(
    ([key, name, scheme]) =>
      `${name} ${listenHosts(settings.string(`${key}.host`))
        .map((host) => scheme + hostPort(host, settings.number(`${key}.port`)))
        .join(', ')}`,
  );
  const open = has('http.tokenFile') && settings.string('http.tokenFile') === '';
  const loopback = has('http.host') && listenHosts(settings.string('http.host')).every(isLoopback);
  const access = !open
    ? ''
    : loopback
      ? 'open to everyone on this machine, without a login (set http.tokenFile to change that)'
      : 'open to everyone who reaches it, without a login (http.allowUnauthenticated)';
  const aeTitle = has('dimse.aeTitle') ? settings.string('dimse.aeTitle') : undefined;
  const version = process.version;
  if (!pretty)
    log.info(
      { role, addresses, aeTitle, dataDir: settings.string('dataDir'), file, open, version, milliseconds },
      'ready',
    );
  if (!pretty) return;
  const lines = [
    ['Gantry', `ready as "${role}" in ${milliseconds} ms`],
    ...addresses.map((text) => [text.split(' ')[0], text.slice(text.indexOf(' ') + 1)]),
    ...(aeTitle ? [['AE title', aeTitle]] : []),
    ['Data', settings.string('dataDir')],
    ['Settings', file ?? 'defaults and environment (no gantry.yaml)'],
    ...(access ? [['Access', access]] : []),
  ];
  output.write(`\n${lines.map(([name, text]) => `  ${name.padEnd(9)} ${text}\n`).join('')}\n`);
}
