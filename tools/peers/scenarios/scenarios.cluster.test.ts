// The scenario suite on the cluster: every role a process of its own, on real NATS, S3 and Elasticsearch. Programs of others come
// in too (tools/setup/peers.ts).
import { startCluster } from '../../cluster/cluster.ts';
import { withoutServers } from '../../servers/index.ts';
import { started } from './deployment.ts';
import { scenarios } from './scenarios.ts';

scenarios('cluster', () => started(startCluster), await withoutServers('nats', 'versitygw', 'elasticsearch'));
