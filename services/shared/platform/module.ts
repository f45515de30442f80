import type { Logger } from 'pino';
import type { Call } from './call.ts';
import type { Audit, Jobs, KeyValue, Lease, Wake } from './ports.ts';
import type { BulkClient, BulkHandler, BulkRoute, Service, ServiceDefinition } from './rpc.types.ts';
import type { Tracing } from './trace.ts';

/** One row of a module's settings table: what a person may say in gantry.yaml (`key`) or the environment (`GANTRY_` + KEY). */
export interface SettingRow {
  type: 'string' | 'integer' | 'ratio' | 'boolean' | 'bytes' | 'ms' | 'list' | 'enum' | 'path' | 'peers';
  default: unknown;
  doc: string; // one sentence, with the reason for the default
  min?: number;
  max?: number;
  values?: readonly string[];
  env?: string; // only where the name is not GANTRY_ + upper snake case of the key
  envAlso?: string; // a standard's name for the same, heard when ours is not set
  limit?: boolean; // bounds what others may cost us: tools/check wants a test that drives it to its refusal
  reload?: boolean; // SIGHUP re-reads it
}
export type SettingsTable = Record<string, SettingRow>;

/** Typed reading of settings; values change on SIGHUP for rows with `reload`. Read them when used, do not copy them. */
export interface Settings {
  string(key: string): string;
  number(key: string): number;
  boolean(key: string): boolean;
  list(key: string): string[];
  value<T>(key: string): T;
  /** Called after a reload that changed something. */
  onChange(listener: () => void): void;
}

/** Metrics by DICOM meaning; names are Prometheus names (`gantry_instances_total`), labels come from closed lists and never hold patient data. */
export interface Metrics {
  counter(name: string, help: string): { add(value: number, labels?: Record<string, string>): void };
  /** A counter that somebody else keeps: read when it is asked for. */
  total(name: string, help: string, read: () => number | { value: number; labels: Record<string, string> }[]): void;
  gauge(name: string, help: string, read: () => number | { value: number; labels: Record<string, string> }[]): void;
  /** With the call that was measured, its trace is the bucket's exemplar. */
  histogram(
    name: string,
    help: string,
    buckets: readonly number[],
  ): { record(value: number, labels?: Record<string, string>, call?: Pick<Call, 'trace'>): void };
  /** Prometheus text, or OpenMetrics (with exemplars), of everything in this process. */
  expose(format?: 'text' | 'openmetrics'): Promise<string>;
}

/** What a module gets, and how it offers what it does. */
export interface Context {
  readonly settings: Settings;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly trace: Tracing;
  readonly audit: Audit;
  readonly wake: Wake;
  readonly jobs: Jobs;
  readonly kv: KeyValue;
  readonly lease: Lease;
  /** A direct call when the service's module is in this process, grpc-js otherwise. */
  client<S extends ServiceDefinition>(service: S): Service<S>;
  /** The same of every process that offers it, for what each knows alone; one, where there is one. Ask anew each time. */
  everywhere<S extends ServiceDefinition>(service: S): Service<S>[];
  bulk<Request, Response>(route: BulkRoute<Request, Response>): BulkClient<Request, Response>;
  /** Offer a service or a route; only while `start` runs. */
  serve<S extends ServiceDefinition>(service: S, handlers: Service<S>): void;
  serveBulk<Request, Response>(route: BulkRoute<Request, Response>, handler: BulkHandler<Request, Response>): void;
  /** Directory for this installation's data (GANTRY_DATA_DIR): archive/, state/, derived/. */
  readonly dataDir: string;
  /** False while starting, and again from the moment a drain begins. */
  readonly ready: () => boolean;
  /** Each module's own word on /readyz. */
  readiness(check: () => { ready: boolean; detail: string }): void;
  /** What /readyz reports: the process itself first, then each module's own word. */
  health(): { module: string; ready: boolean; detail: string }[];
}

export interface Module {
  readonly name: string;
  readonly settings: SettingsTable;
  /** Pairs of settings that cannot be: returns sentences that say what to do. */
  check?(settings: Settings): string[];
  /** Modules are started in the order of the roles table and stopped in reverse. */
  start(context: Context): Promise<Running>;
}

export interface Running {
  /** Accept nothing new, finish what is in flight, within the time given by the lifecycle. */
  drain?(signal: AbortSignal): Promise<void>;
  stop(): Promise<void>;
}
