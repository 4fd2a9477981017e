"""The line for a PLC over Modbus TCP (pymodbus): a handshake by registers; needs the extra plc."""
