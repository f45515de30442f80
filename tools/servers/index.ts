// Real servers for tests: README.md says how.
export { type ElasticsearchNodes, type ElasticsearchOptions, startElasticsearch } from './elasticsearch.ts';
export { type NatsOptions, type NatsServers, startNats } from './nats.ts';
export type { ServerNode } from './node.ts';
export { homeOf, isBuilt, type Part } from './parts.ts';
export { freePorts } from './ports.ts';
export { type S3Kind, type S3Options, type S3Server, startS3 } from './s3.ts';
export { type Source, serversComeFrom, withoutServers } from './source.ts';
export { type Toxic, type ToxicSettings, toxic } from './toxic.ts';
export { DELAYS, type Delays, type S3Request, type S3Toxins, type ToxicS3, type Toxin, toxicS3 } from './toxic-s3.ts';
export { temporaryFolder } from './watchdog.ts';
