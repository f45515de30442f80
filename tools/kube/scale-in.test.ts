import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Cluster, costOf, type Pod, round } from '../../charts/gantry/files/scale-in.mts';

const COST = 'controller.kubernetes.io/pod-deletion-cost';
const pod = (
  name: string,
  more: Partial<Pod['metadata']> = {},
  status: Pod['status'] = { podIP: `ip-${name}`, phase: 'Running' },
): Pod => ({
  metadata: { name, ...more },
  status,
});

test('open associations make a pod dear, work in progress dearer; other metrics do not', () => {
  assert.equal(
    costOf(
      '# HELP gantry_dimse_associations Open\ngantry_dimse_associations 7\ngantry_dimse_associations_total 900\ngantry_dimse_retrieves 2\n',
    ),
    27,
  );
  assert.equal(costOf('gantry_dimse_associations{door="a"} 3\ngantry_dimse_associations{door="b"} 4'), 7);
  assert.equal(costOf(''), 0);
});

test('only differences are written; a silent pod keeps its cost, one that goes or has not begun is left alone', async () => {
  const written: Record<string, string> = {};
  const pods = [
    pod('busy'),
    pod('same', { annotations: { [COST]: '4' } }),
    pod('silent', { annotations: { [COST]: '50' } }),
    pod('going', { deletionTimestamp: 'now' }),
    pod('new', {}, { phase: 'Pending' }),
    pod('emptied', { annotations: { [COST]: '9' } }),
  ];
  const associations: Record<string, number> = { 'ip-busy': 12, 'ip-same': 4, 'ip-emptied': 0 };
  const cluster: Cluster = {
    pods: async () => pods,
    metrics: async (address) => {
      if (associations[address] === undefined) throw new Error('no answer');
      return `gantry_dimse_associations ${associations[address]}`;
    },
    annotate: async (name, annotations) => void (written[name] = annotations[COST]!),
  };
  assert.deepEqual(await round(cluster), { changed: 2, silent: 1 });
  assert.deepEqual(written, { busy: '12', emptied: '0' });
});
