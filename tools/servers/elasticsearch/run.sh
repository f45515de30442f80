#!/usr/bin/env bash
# run.sh HOME: one node. HOME has config/elasticsearch.yml, and links to this folder's lib and modules (tools/servers/elasticsearch.ts).
# ES_HEAP, ES_JIT=full (C2 as well: slower to start, faster for long; benchmarks), ES_TRAIN=FILE (see build.sh)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=$(cd "$1" && pwd)
jit=(-XX:TieredStopAtLevel=1)
[[ ${ES_JIT:-} == full ]] && jit=()
aot=("-XX:AOTCache=$here/node.aot")
[[ ${ES_TRAIN:-} ]] && aot=("-XX:AOTCacheOutput=$ES_TRAIN")
# Relative to here, so that the class path is the one of the AOT cache wherever this folder lies.
cd "$here"
exec java/bin/java "-Xms${ES_HEAP:-512m}" "-Xmx${ES_HEAP:-512m}" -XX:+UseSerialGC "${jit[@]}" "${aot[@]}" -Xlog:aot*=error,cds*=error \
  "-Djava.io.tmpdir=$home/tmp" "-Des.path.home=$home" -Dlog4j2.disable.jmx=true \
  -Dio.netty.noUnsafe=true -Dio.netty.noKeySetOptimization=true -Dio.netty.recycler.maxCapacityPerThread=0 \
  --add-opens=java.base/java.io=ALL-UNNAMED --enable-native-access=ALL-UNNAMED \
  -Dorg.elasticsearch.nativeaccess.enableVectorLibrary=false \
  -cp 'lib/*' gantry.launch.EsNode
