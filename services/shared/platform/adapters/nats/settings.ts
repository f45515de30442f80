import type { SettingsTable } from '../../module.ts';

/** What is needed to work with other processes over NATS. Without `platform.natsServers` none of it is read. */
export const natsSettings: SettingsTable = {
  'platform.natsServers': {
    type: 'list',
    default: [],
    doc: 'NATS servers with JetStream as host:port, for wakes, jobs, leases and configured facts of several processes; empty: this process works alone, with files and SQLite.',
  },
  'platform.natsPrefix': {
    type: 'string',
    default: 'gantry',
    doc: 'First word of every stream and subject, letters, digits, dash and underscore, so that several installations may share one NATS.',
  },
  'platform.natsReplicas': {
    type: 'integer',
    default: 0,
    min: 0,
    max: 5,
    doc: 'Copies of each stream; 0: three when platform.natsServers names three servers or more, else one, and never fewer than there are.',
  },
  'platform.natsCredsFile': {
    type: 'path',
    default: '',
    doc: 'File with NATS credentials (JWT and seed, as nsc writes it); read at each connection, so that it may be rotated.',
  },
  'platform.natsTokenFile': {
    type: 'path',
    default: '',
    doc: 'File with the token that the NATS servers ask for; read at each connection.',
  },
  'platform.natsUser': {
    type: 'string',
    default: '',
    doc: 'User name for NATS servers that ask for one; its password is in platform.natsPasswordFile.',
  },
  'platform.natsPasswordFile': {
    type: 'path',
    default: '',
    doc: 'File with the password of platform.natsUser; read at each connection.',
  },
  'platform.natsTlsCaFile': {
    type: 'path',
    default: '',
    doc: 'File with the certificates (PEM) that the NATS servers’ own must descend from; given, a server without TLS is refused.',
  },
  'platform.natsTlsCertFile': {
    type: 'path',
    default: '',
    doc: 'File with the certificate (PEM) by which this process shows NATS who it is; with platform.natsTlsKeyFile.',
  },
  'platform.natsTlsKeyFile': {
    type: 'path',
    default: '',
    doc: 'File with the private key (PEM) of platform.natsTlsCertFile.',
  },
  'platform.natsTlsFirst': {
    type: 'boolean',
    default: false,
    doc: 'Whether TLS begins before the server’s first line (its handshake_first), so that nobody on the way can pretend that it has none.',
  },
  'platform.natsStartWaitMs': {
    type: 'ms',
    default: 5_000,
    min: 0,
    max: 600_000,
    doc: 'How long a start waits for NATS before it goes on without: storing needs none, and what needs it waits and says so.',
  },
  'platform.natsTimeoutMs': {
    type: 'ms',
    default: 10_000,
    min: 500,
    max: 120_000,
    limit: true,
    reload: true,
    doc: 'How long one question to NATS may take with all its tries, then it is refused as unavailable; a change of leaders takes 5 to 7 s.',
  },
  'platform.natsClaimMs': {
    type: 'ms',
    default: 15_000,
    min: 500,
    max: 600_000,
    doc: 'After so long without a word of a process, others take over its running jobs.',
  },
  'platform.natsLeaseMs': {
    type: 'ms',
    default: 15_000,
    min: 500,
    max: 600_000,
    doc: 'How long a lease outlives a holder that died; it is renewed four times in that time, and given up at four fifths of it.',
  },
  'platform.natsJobsBytesMax': {
    type: 'bytes',
    default: 1024 * 1024 * 1024,
    min: 16 * 1024 * 1024,
    max: 1024 * 1024 * 1024 * 1024,
    limit: true,
    doc: 'Size of the stream of jobs, set aside on each replica; a tenth of it is kept for changes of the jobs that are there, and beyond new ones are refused. A million small jobs fit.',
  },
  'platform.natsKeyValueBytesMax': {
    type: 'bytes',
    default: 256 * 1024 * 1024,
    min: 1024 * 1024,
    max: 1024 * 1024 * 1024 * 1024,
    limit: true,
    doc: 'Size of the bucket of configured facts, set aside on each replica; beyond it a change is refused.',
  },
};
