import * as index from '#proto/index/v1/index.ts';
import * as ingest from '#proto/ingest/v1/ingest.ts';
import * as storage from '#proto/storage/v1/storage.ts';
import type { BulkRoute, Codec } from './rpc.types.ts';

const route = <Request, Response>(
  name: string,
  request: Codec<Request>,
  response: Codec<Response>,
): BulkRoute<Request, Response> => ({
  name,
  request,
  response,
});

/** Empty bodies stand where a route takes or gives no bytes. */
export const BULK = {
  /** Body: one Part 10 file, at most `storage.smallLimit` bytes. Answers once it is durable. */
  appendInstance: route('storage.appendInstance', storage.AppendInstanceRequest, storage.AppendInstanceResponse),
  /** Body: one Part 10 file of any size. It is on stable storage when this answers, and invisible until `appendLarge`. */
  putLarge: route('storage.putLarge', storage.PutLargeRequest, storage.PutLargeResponse),
  appendLarge: route('storage.appendLarge', storage.AppendLargeRequest, storage.AppendInstanceResponse),
  /** Response body: the ranges asked for, one after the other. `not-found`: the place has moved, resolve again. */
  read: route('storage.read', storage.ReadRequest, storage.ReadResponse),
  /** Body: a data set as C-STORE carries it. The body is pulled only once a permit is held: not pulling is the back-pressure. */
  store: route('ingest.store', ingest.StoreRequest, ingest.StoreResponse),
  storePart10: route('ingest.storePart10', ingest.StorePart10Request, ingest.StoreResponse),
  stow: route('ingest.stow', ingest.StowRequest, ingest.StowResponse),
  metadata: route('index.metadata', index.MetadataRequest, index.MetadataResponse),
} as const;
