// An OPC UA client that is not Python, against `hisir-edge opcua`: node client.js URL PKI_FOLDER secure|open EVENTS
const {
  OPCUAClient, MessageSecurityMode, SecurityPolicy, AttributeIds, TimestampsToReturn,
  constructEventFilter, DataType,
} = require("node-opcua-client");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");

const NAMESPACE = "urn:hisir-edge:machine-vision";
const RESULT = "VisionSystem/ResultManagement/LastResult";

async function main() {
  const [url, folder, security, wanted] = process.argv.slice(2);
  const manager = new OPCUACertificateManager({ rootFolder: folder, automaticallyAcceptUnknownCertificate: true });
  await manager.initialize();
  const client = OPCUAClient.create({
    applicationName: "node-line-client", clientCertificateManager: manager, endpointMustExist: false,
    connectionStrategy: { maxRetry: 1, initialDelay: 200 },
    securityMode: security === "secure" ? MessageSecurityMode.SignAndEncrypt : MessageSecurityMode.None,
    securityPolicy: security === "secure" ? SecurityPolicy.Basic256Sha256 : SecurityPolicy.None,
  });
  await client.connect(url);
  const session = await client.createSession();
  const namespaces = await session.readNamespaceArray();
  const index = namespaces.indexOf(NAMESPACE);
  const read = async (path) => {
    const value = await session.read({ nodeId: `ns=${index};s=${path}`, attributeId: AttributeIds.Value });
    return { status: value.statusCode.name, value: value.value.value };
  };
  const told = {
    state: await read("VisionSystem/VisionStateMachine/CurrentState"),
    automatic: await read("VisionSystem/VisionStateMachine/AutomaticModeStateMachine/CurrentState"),
    products: await read("VisionSystem/RecipeManagement/Products"),
    verdict: await read(`${RESULT}/Verdict`),
    boxes: await read(`${RESULT}/DefectBoxes`),
  };
  const call = async (object, method, inputArguments) => {
    const answer = await session.call({
      objectId: `ns=${index};s=VisionSystem/${object}`, methodId: `ns=${index};s=VisionSystem/${object}/${method}`,
      inputArguments,
    });
    return { status: answer.statusCode.name, outputs: (answer.outputArguments || []).map((one) => one.value) };
  };
  told.selected = await call("RecipeManagement", "SelectProduct", [
    { dataType: DataType.String, value: (told.products.value || [])[0] || "p" },
  ]);
  const id = (await read(`${RESULT}/ResultId`)).value;
  told.again = await call("ResultManagement", "GetResultById", [{ dataType: DataType.String, value: id }]);

  const type = (await session.translateBrowsePath({
    startingNode: "i=2041",
    relativePath: { elements: [{ referenceTypeId: "i=45", isInverse: false, includeSubtypes: true,
      targetName: { namespaceIndex: index, name: "ResultReadyEventType" } }] },
  })).targets[0].targetId;
  const fields = ["Message", "Severity", "ResultId", "SequenceNumber", "Verdict", "PartId"];
  const filter = constructEventFilter(fields.map((name) => (fields.indexOf(name) < 2 ? name : `${index}:${name}`)), [type]);
  const subscription = await session.createSubscription2({
    requestedPublishingInterval: 50, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 20,
    maxNotificationsPerPublish: 100, publishingEnabled: true, priority: 1,
  });
  told.events = [];
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`only ${told.events.length} events`)), 20000);
    subscription.monitor(
      { nodeId: `ns=${index};s=VisionSystem`, attributeId: AttributeIds.EventNotifier },
      { samplingInterval: 0, queueSize: 1000, discardOldest: false, filter }, TimestampsToReturn.Both,
    ).then((item) => item.on("changed", (values) => {
      const [message, ...rest] = values.map((one) => one.value);
      told.events.push([message.text, ...rest]);
      if (told.events.length >= Number(wanted)) { clearTimeout(timer); resolve(); }
    }), reject);
  });
  await session.close();
  await client.disconnect();
  console.log(JSON.stringify(told));
}

main().then(() => process.exit(0), (error) => { console.error(error.message); process.exit(1); });
