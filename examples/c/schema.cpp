// JSON Schema for C, by valijson and nlohmann/json (Debian: libvalijson-dev, nlohmann-json3-dev).
#include <cstring>
#include <nlohmann/json.hpp>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/utils/nlohmann_json_utils.hpp>
#include <valijson/validator.hpp>

static valijson::Schema schema;
using Adapter = valijson::adapters::NlohmannJsonAdapter;

static long number(const nlohmann::json &body, char epoch[33]) {
  std::strncpy(epoch, body.at("epoch").get<std::string>().c_str(), 32);
  return body.at("seq").get<long>();
}

extern "C" int schema_load(const char *path) try {
  nlohmann::json document;
  if (!valijson::utils::loadDocument(path, document)) return 1;
  document.erase("$id");  // references lead to places in this document
  valijson::SchemaParser().populateSchema(Adapter(document), schema);
  return 0;
} catch (const std::exception &) {
  return 1;
}

extern "C" long verdict_seq(const char *text, size_t size, char epoch[33]) try {
  auto body = nlohmann::json::parse(text, text + size);
  valijson::Validator validator;
  if (!validator.validate(schema, Adapter(body), nullptr)) return -1;
  return number(body, epoch);
} catch (const std::exception &) {
  return -1;
}

extern "C" long heartbeat_seq(const char *text, size_t size, char epoch[33]) try {
  return number(nlohmann::json::parse(text, text + size), epoch);
} catch (const std::exception &) {
  return -1;
}
