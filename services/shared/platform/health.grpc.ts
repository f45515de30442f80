import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import * as grpc from '@grpc/grpc-js';
import type { Served } from './observe-wire.ts';

/** grpc.health.v1, as kubelets and grpc_health_probe ask it: two messages of one field each. */
const SERVING = 1;
const NOT_SERVING = 2;
const SERVICE_UNKNOWN = 3;
const WATCH_MS = 1_000;

export interface HealthRequest {
  service: string;
}
export interface HealthResponse {
  status: number;
}

const request = {
  serialize: ({ service }: HealthRequest) => Buffer.from(new BinaryWriter().uint32(10).string(service).finish()),
  deserialize(bytes: Buffer): HealthRequest {
    const reader = new BinaryReader(bytes);
    let name = '';
    while (reader.pos < reader.len) {
      const [field, type] = reader.tag();
      if (field === 1 && type === 2) name = reader.string();
      else reader.skip(type);
    }
    return { service: name };
  },
};
const response = {
  serialize: ({ status }: HealthResponse) => Buffer.from(new BinaryWriter().uint32(8).int32(status).finish()),
  deserialize(bytes: Buffer): HealthResponse {
    const reader = new BinaryReader(bytes);
    let status = 0;
    while (reader.pos < reader.len) {
      const [field, type] = reader.tag();
      if (field === 1 && type === 0) status = reader.int32();
      else reader.skip(type);
    }
    return { status };
  },
};

export const healthService: grpc.ServiceDefinition = Object.fromEntries(
  (['Check', 'Watch'] as const).map((name) => [
    name,
    {
      path: `/grpc.health.v1.Health/${name}`,
      requestStream: false,
      responseStream: name === 'Watch',
      requestSerialize: request.serialize,
      requestDeserialize: request.deserialize,
      responseSerialize: response.serialize,
      responseDeserialize: response.deserialize,
    },
  ]),
);

/** Without a token: it says nothing but yes and no, to whoever reaches this port at all. */
export function serveGrpcHealth(server: grpc.Server, services: Served, serving: () => boolean): void {
  const status = (name: string): number =>
    name !== '' && !services.offered.has(name) ? SERVICE_UNKNOWN : serving() ? SERVING : NOT_SERVING;
  server.addService(healthService, {
    Check: (
      call: grpc.ServerUnaryCall<HealthRequest, HealthResponse>,
      callback: grpc.sendUnaryData<HealthResponse>,
    ) => {
      const now = status(call.request.service);
      if (now === SERVICE_UNKNOWN) callback({ code: grpc.status.NOT_FOUND, details: 'no such service' });
      else callback(null, { status: now });
    },
    Watch: (call: grpc.ServerWritableStream<HealthRequest, HealthResponse>) => {
      let last = status(call.request.service);
      call.write({ status: last });
      const timer = setInterval(() => {
        const now = status(call.request.service);
        if (now !== last) call.write({ status: (last = now) });
      }, WATCH_MS).unref();
      for (const end of ['cancelled', 'close', 'error']) call.on(end, () => clearInterval(timer));
    },
  });
}
