// A network that a test can break between the parts of a cluster: one proxy before each.
import { type Toxic, type ToxicS3, toxic, toxicS3 } from '../servers/index.ts';

export interface Proxies {
  /** What the processes are given instead of the true addresses. */
  readonly addresses: {
    nats: string[];
    s3: string;
    elasticsearch: string[];
    /** By name of the process: host:grpcPort:bulkPort. */
    processes: Record<string, string>;
  };
  readonly nats: readonly Toxic[];
  readonly s3: ToxicS3;
  readonly elasticsearch: readonly Toxic[];
  /** Control plane and data plane of each process. */
  readonly processes: Readonly<Record<string, readonly [grpc: Toxic, bulk: Toxic]>>;
  close(): Promise<void>;
}

export async function proxies(parts: {
  nats: string[];
  s3: string;
  elasticsearch: string[];
  placed: { name: string; grpc: number; bulk: number }[];
}): Promise<Proxies> {
  const all = (targets: string[]) => Promise.all(targets.map((target) => toxic(target)));
  const [nats, elasticsearch, s3] = [await all(parts.nats), await all(parts.elasticsearch), await toxicS3(parts.s3)];
  const processes: Record<string, readonly [Toxic, Toxic]> = {};
  for (const { name, grpc, bulk } of parts.placed)
    processes[name] = [await toxic(`127.0.0.1:${grpc}`), await toxic(`127.0.0.1:${bulk}`)];
  return {
    addresses: {
      nats: nats.map(({ address }) => address),
      s3: s3.endpoint,
      elasticsearch: elasticsearch.map(({ address }) => `http://${address}`),
      processes: Object.fromEntries(
        Object.entries(processes).map(([name, [grpc, bulk]]) => [name, `${grpc.address}:${bulk.port}`]),
      ),
    },
    nats,
    s3,
    elasticsearch,
    processes,
    close: async () => {
      await Promise.all([...nats, ...elasticsearch, s3, ...Object.values(processes).flat()].map((one) => one.close()));
    },
  };
}
