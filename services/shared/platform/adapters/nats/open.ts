import { accessSync, constants } from 'node:fs';
import type { Logger } from 'pino';
import { GantryError } from '../../errors.ts';
import type { Metrics, Settings } from '../../module.ts';
import type { Platform } from '../open.ts';
import { natsJobs } from './jobs.ts';
import { natsKeyValue } from './key-value.ts';
import { natsLease } from './lease.ts';
import { type LinkOptions, NatsLink } from './link.ts';
import { Records } from './records.ts';
import { natsWake } from './wake.ts';

const LEASES_BYTES_MAX = 16 * 1024 * 1024;
const FILES = ['CredsFile', 'TokenFile', 'PasswordFile', 'TlsCaFile', 'TlsCertFile', 'TlsKeyFile'];

/** Wake, Jobs, KeyValue and Lease of many processes. The start does not depend on NATS: storing must not. */
export async function openNats(settings: Settings, log: Logger, metrics: Metrics): Promise<Platform> {
  const link = new NatsLink(linkOptions(settings), log);
  const prefix = settings.string('platform.natsPrefix');
  const number = (key: string) => () => settings.number(key);
  const startWaitMs = settings.number('platform.natsStartWaitMs');
  await link.whenUp(startWaitMs).catch(() => {
    log.warn({ limitMs: startWaitMs }, 'NATS is not reachable: this process starts without it and goes on trying');
  });

  const kvRecords = new Records(link, {
    stream: `KV_${prefix}`,
    root: `$KV.${prefix}`,
    bytesMax: number('platform.natsKeyValueBytesMax'),
  });
  const jobRecords = new Records(link, {
    stream: `${prefix}-jobs`,
    root: `${prefix}.job`,
    bytesMax: number('platform.natsJobsBytesMax'),
  });
  const leaseRecords = new Records(link, {
    stream: `${prefix}-leases`,
    root: `${prefix}.lease`,
    bytesMax: () => LEASES_BYTES_MAX,
  });
  const wake = natsWake(link, log);
  const lease = natsLease(leaseRecords, number('platform.natsLeaseMs'), log);
  const jobLimits = () => ({
    jobsMax: settings.number('platform.jobsMax'),
    payloadMax: settings.number('platform.jobPayloadMax'),
  });
  const jobs = natsJobs(jobRecords, jobLimits, number('platform.natsClaimMs'), log);

  metrics.gauge('gantry_nats_connected', 'Whether this process is connected to NATS.', () => (link.connected ? 1 : 0));
  metrics.gauge(
    'gantry_wakes_dropped',
    'Wakes that other processes were not told, since the start: NATS was gone.',
    () => wake.dropped(),
  );
  metrics.gauge('gantry_jobs', 'Jobs by queue and state; dead ones wait for a person (gantry queue).', () =>
    jobs.counts().map(({ queue, state, count }) => ({ value: count, labels: { queue, state } })),
  );
  metrics.gauge('gantry_jobs_oldest_seconds', 'How long the oldest job that is due has waited, by queue.', () =>
    jobs.ages().map(({ queue, ms }) => ({ value: ms / 1000, labels: { queue } })),
  );

  return {
    wake,
    jobs,
    lease,
    kv: natsKeyValue(kvRecords, () => Math.min(settings.number('platform.keyValueMax'), kvRecords.bodyMax)),
    // Never a reason not to be ready: the doors store and answer without NATS.
    checks: [{ module: 'nats', check: () => ({ ready: true, detail: link.detail }) }],
    async close() {
      await jobs.close();
      lease.close();
      wake.close();
      await link.close();
    },
  };
}

function linkOptions(settings: Settings): LinkOptions {
  const text = (name: string) => settings.string(`platform.nats${name}`);
  for (const name of FILES) {
    const file = text(name);
    if (file === '') continue;
    try {
      accessSync(file, constants.R_OK);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new GantryError('failed-precondition', `platform.nats${name}: ${file} cannot be read (${code})`, { cause });
    }
  }
  if (!/^[A-Za-z0-9_-]{1,32}$/.test(text('Prefix')))
    throw new GantryError(
      'failed-precondition',
      'platform.natsPrefix has 1 to 32 letters, digits, dashes, underscores',
    );
  const handshakeFirst = settings.boolean('platform.natsTlsFirst');
  const withTls = handshakeFirst || text('TlsCaFile') !== '' || text('TlsCertFile') !== '';
  return {
    servers: settings.list('platform.natsServers'),
    prefix: text('Prefix'),
    replicas: settings.number('platform.natsReplicas'),
    timeoutMs: () => settings.number('platform.natsTimeoutMs'),
    credsFile: text('CredsFile'),
    tokenFile: text('TokenFile'),
    user: text('User'),
    passwordFile: text('PasswordFile'),
    ...(withTls
      ? {
          tls: {
            handshakeFirst,
            ...(text('TlsCaFile') ? { caFile: text('TlsCaFile') } : {}),
            ...(text('TlsCertFile') ? { certFile: text('TlsCertFile'), keyFile: text('TlsKeyFile') } : {}),
          },
        }
      : {}),
  };
}
