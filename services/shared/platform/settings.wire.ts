import type { SettingsTable } from './module.ts';

/** How Gantry processes find each other, and how long one waits for another. */
export const wireSettings: SettingsTable = {
  'platform.endpoints': {
    type: 'list',
    default: [],
    doc: 'Where services outside this process are: name=host:grpcPort:bulkPort, for example storage=storage:9090:9091. A name is a proto package (storage) or one service of it (storage.keeper); every address behind the host is a process of its own, and several hosts are joined by |.',
  },
  'platform.resolveMs': {
    type: 'ms',
    default: 5_000,
    min: 100,
    max: 600_000,
    doc: 'How often the hosts of platform.endpoints are looked up again: new pods get work after so long, and only a lookup tells that they are there.',
  },
  'platform.connectMs': {
    type: 'ms',
    default: 5_000,
    min: 10,
    max: 120_000,
    reload: true,
    doc: 'How long a call looks for a process that takes it, before its caller is told that nobody does: a process that died is back within this time.',
  },
  'platform.stallMs': {
    type: 'ms',
    default: 30_000,
    min: 100,
    max: 3_600_000,
    reload: true,
    limit: true,
    doc: 'How long another process may send nothing while its bytes are waited for (a stopped machine, a cut network); waiting for us does not count.',
  },
  'platform.retryPercent': {
    type: 'integer',
    default: 10,
    min: 0,
    max: 100,
    reload: true,
    doc: 'Calls that may be repeated after their connection broke, as a share of all calls; 10 % hides a process that dies and adds little to one that drowns. Only reading is repeated.',
  },
  'platform.reusePort': {
    type: 'boolean',
    default: false,
    doc: 'Let several processes of one machine listen on the same port of the HTTP or DICOM door: the kernel shares connections out and the senders’ addresses stay (Linux).',
  },
  'platform.healthPort': {
    type: 'integer',
    default: 0,
    min: 0,
    max: 65_535,
    doc: 'Port with /healthz, /readyz and /metrics of this process, for probes and Prometheus; 0: none beside the HTTP door.',
  },
  'platform.healthHost': {
    type: 'string',
    default: '127.0.0.1',
    doc: 'Address of platform.healthPort; what it serves says nothing of patients and needs no token.',
  },
};
